//! What has to be equal, and nothing else: results and kernel state without names and numbers that no two runs share,
//! and without the differences that Heddle means to have. Each of those stands here with its reason.
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use lab::inspect::{self, ip};
use lab::{Result, Space};
use serde_json::{Map, Value, json};

/// A result without
/// - the host veth's name (the reference draws one, Heddle derives it from the attachment) and MACs (drawn by the
///   kernel, or by Heddle from the attachment): that they are there and well formed is looked at;
/// - `mtu` of interfaces, which the reference never says;
/// - an empty `dns` from 1.0.0 on, which the reference prints and Heddle leaves out.
pub fn result(result: &Value) -> Result<Value> {
    let mut result = result
        .as_object()
        .context("a result that is no object")?
        .clone();
    let interfaces = result.get_mut("interfaces").and_then(Value::as_array_mut);
    for interface in interfaces.into_iter().flatten() {
        let interface = interface
            .as_object_mut()
            .context("an interface that is no object")?;
        interface.remove("mtu");
        if let Some(name) = interface
            .get_mut("name")
            .filter(|name| name.as_str().is_some_and(|name| name.starts_with("veth")))
        {
            *name = "veth".into();
        }
        if let Some(mac) = interface.get_mut("mac") {
            ensure!(mac.as_str().is_some_and(|mac| mac.len() == 17), "mac {mac}");
            *mac = "a MAC".into();
        }
    }
    let since_1_0 = result.get("cniVersion").and_then(Value::as_str) >= Some("1");
    if since_1_0 && result.get("dns") == Some(&json!({})) {
        result.remove("dns");
    }
    Ok(result.into())
}

/// A pod's links, addresses, routes and rules, as `ip` shows them, without
/// - `txqlen`: the reference's library sets 0 on a veth, Heddle leaves the kernel's default, which a queueing discipline
///   put there later needs;
/// - `nodad` of addresses: both skip the probe, the reference by the sysctl accept_dad, Heddle address by address;
/// - what the kernel makes from the MAC: link-local addresses and their routes.
pub fn pod(pod: &Space) -> Result<Value> {
    let mut seen = Vec::new();
    for link in ip(pod, "address show")? {
        seen.push(state(&link));
        seen.extend(addresses(&link));
    }
    for family in ["-4", "-6"] {
        for route in ip(pod, &format!("{family} route show table all"))? {
            if !route["dst"]
                .as_str()
                .is_some_and(|dst| dst.starts_with("fe80:"))
            {
                seen.push(route);
            }
        }
        seen.extend(ip(pod, &format!("{family} rule show"))?);
    }
    Ok(seen.into())
}

/// A link as it is, without what a thread of the kernel's works out some time later (net/core/link_watch.c): `operstate`,
/// and `NO-CARRIER` beside the carrier itself, which is `LOWER_UP`.
fn state(link: &Value) -> Value {
    let mut shown = keep(link, &["ifname", "flags", "mtu", "qdisc", "group"]);
    if let Some(flags) = shown["flags"].as_array_mut() {
        flags.retain(|flag| flag != "NO-CARRIER");
    }
    shown
}

/// A bridge, its addresses and ports, and whether the node forwards, without the same as [`pod`].
pub fn bridge(node: &Space, name: &str) -> Result<Value> {
    let mut seen = Vec::new();
    for link in ip(node, &format!("address show dev {name}"))? {
        seen.push(state(&link));
        seen.extend(addresses(&link));
    }
    for mut port in ip(node, &format!("link show master {name}"))? {
        let settings = port
            .pointer_mut("/linkinfo/info_slave_data")
            .map(Value::take);
        let mut settings = settings.context("a port without settings")?;
        // Identifiers that follow the MAC, timers that run.
        settings
            .as_object_mut()
            .context("settings")?
            .retain(|key, _| {
                !key.contains("id")
                    && !key.ends_with("_timer")
                    && key != "designated_bridge"
                    && key != "designated_root"
            });
        let mut shown = state(&port);
        // Each has its own way to name it.
        shown["ifname"].take();
        shown["port"] = settings;
        seen.push(shown);
    }
    for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
        seen.push(
            format!(
                "{key} = {}",
                inspect::sh(node, &format!("sysctl -n {key}"))?.trim()
            )
            .into(),
        );
    }
    Ok(seen.into())
}

/// A link's addresses but those of the link's own scope.
fn addresses(link: &Value) -> Vec<Value> {
    let mut addresses = link["addr_info"].as_array().cloned().unwrap_or_default();
    addresses.retain(|address| address["scope"] != "link");
    for address in addresses.iter_mut().filter_map(Value::as_object_mut) {
        address.remove("nodad");
    }
    addresses
}

fn keep(object: &Value, keys: &[&str]) -> Value {
    let kept = keys
        .iter()
        .filter_map(|key| Some((key.to_string(), object.get(key)?.clone())));
    kept.collect::<Map<_, _>>().into()
}

/// The files of host-local with their bytes, without
/// - their mode: 0644 by Debian's 1.1.1, 0600 by Heddle and newer references;
/// - Heddle's index, which the reference never looks at.
pub fn leases(node: &Space) -> Result<Value> {
    fn walk(dir: &Path, seen: &mut BTreeMap<String, String>) -> std::io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                seen.insert(
                    entry.path().display().to_string(),
                    fs::read_to_string(entry.path())?,
                );
            } else if entry.file_name() != ".heddle" {
                walk(&entry.path(), seen)?;
            }
        }
        Ok(())
    }
    let mut seen = BTreeMap::new();
    node.run(|| walk(Path::new("/var/lib/cni/networks"), &mut seen))?;
    Ok(seen
        .into_iter()
        .map(|(file, bytes)| Value::from(format!("{file} {bytes:?}")))
        .collect())
}
