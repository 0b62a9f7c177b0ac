//! The kernel's part of a snapshot, read with the system's own tools and not with the code under test.
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use crate::{Result, Space, inspect};

/// Keys of `ip -j`, `nft -j` and `tc -j` that change by themselves, besides those that end in `_timer`.
const RESTLESS: [&str; 14] = [
    "bytes",
    "dadfailed",
    "handle",
    "linkmode",
    "operstate",
    "packets",
    "preferred_life_time",
    "refcnt",
    "root_port",
    "state",
    "tentative",
    "topology_change",
    "topology_change_detected",
    "valid_life_time",
];

/// Sysctls that plugins touch, below `/proc/sys/net`; `*` stands for every interface.
const SYSCTLS: [&str; 10] = [
    "ipv4/ip_forward",
    "ipv4/conf/*/forwarding",
    "ipv4/conf/*/rp_filter",
    "ipv4/conf/*/route_localnet",
    "ipv4/conf/*/proxy_arp",
    "ipv4/conf/*/arp_notify",
    "ipv6/conf/*/forwarding",
    "ipv6/conf/*/disable_ipv6",
    "ipv6/conf/*/accept_ra",
    "ipv6/conf/*/accept_dad",
];

/// One line for each object in the kernel.
pub(super) fn lines(space: &Space) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let ip = |words: &str| inspect::ip(space, words);
    for link in ip("link show")? {
        lines.push(format!("link {}", quiet(&link)));
    }
    for link in ip("address show")? {
        for address in link["addr_info"].as_array().into_iter().flatten() {
            if address["scope"] != "link" || address["family"] != "inet6" {
                lines.push(format!("address {} {}", link["ifname"], quiet(address)));
            }
        }
    }
    for family in ["-4", "-6"] {
        for route in ip(&format!("{family} route show table all"))? {
            if !of_ipv6_itself(&route) {
                lines.push(format!("route {}", quiet(&route)));
            }
        }
        for rule in ip(&format!("{family} rule show"))? {
            lines.push(format!("rule {family} {rule}"));
        }
    }
    for qdisc in inspect::tool(space, "tc", "-j qdisc show")? {
        lines.push(format!("qdisc {}", quiet(&qdisc)));
    }
    lines.extend(ruleset(space)?);
    lines.extend(space.run(sysctls));
    Ok(lines)
}

/// The whole nftables ruleset, one line an object and one an element of a set.
fn ruleset(space: &Space) -> Result<Vec<String>> {
    let text = space.command("nft").args(["-j", "list", "ruleset"]).ok()?;
    let all: Value = serde_json::from_str(&text).context("nft -j")?;
    let mut lines = Vec::new();
    for object in all["nftables"].as_array().into_iter().flatten() {
        if object.get("metainfo").is_some() {
            continue;
        }
        let mut object = quiet(object);
        for kind in ["set", "map"] {
            let Some(elements) = object
                .pointer_mut(&format!("/{kind}/elem"))
                .map(Value::take)
            else {
                continue;
            };
            for element in elements.as_array().into_iter().flatten() {
                lines.push(format!("nft element of {} {element}", object[kind]["name"]));
            }
        }
        lines.push(format!("nft {object}"));
    }
    Ok(lines)
}

/// The object without what changes by itself.
fn quiet(object: &Value) -> Value {
    match object {
        Value::Object(map) => {
            let kept = map
                .iter()
                .filter(|(key, _)| !RESTLESS.contains(&key.as_str()) && !key.ends_with("_timer"));
            kept.map(|(key, value)| {
                (
                    key.clone(),
                    if key == "flags" {
                        flags(value)
                    } else {
                        quiet(value)
                    },
                )
            })
            .collect()
        }
        Value::Array(items) => items.iter().map(quiet).collect(),
        other => other.clone(),
    }
}

/// Flags of a link or route that someone set, not those that follow the carrier.
fn flags(flags: &Value) -> Value {
    let set = flags.as_array().into_iter().flatten();
    set.filter(|flag| {
        !["LOWER_UP", "NO-CARRIER", "linkdown", "dead"]
            .iter()
            .any(|carrier| *flag == carrier)
    })
    .cloned()
    .collect()
}

/// Routes that the kernel makes for link-local addresses and multicast, at times of its own.
fn of_ipv6_itself(route: &Value) -> bool {
    let to = route["dst"].as_str().unwrap_or_default();
    ["fe80:", "ff00:", "multicast"]
        .iter()
        .any(|start| to.starts_with(start))
        || route["type"] == "anycast"
}

fn sysctls() -> Vec<String> {
    let root = Path::new("/proc/sys/net");
    let mut lines = Vec::new();
    for key in SYSCTLS {
        let files = match key.split_once('*') {
            None => vec![root.join(key)],
            Some((dir, name)) => {
                let interfaces = fs::read_dir(root.join(dir)).into_iter().flatten().flatten();
                interfaces
                    .map(|interface| interface.path().join(name.trim_start_matches('/')))
                    .collect()
            }
        };
        for file in files {
            if let Ok(value) = fs::read_to_string(&file) {
                lines.push(format!("sysctl {} = {}", file.display(), value.trim()));
            }
        }
    }
    lines
}
