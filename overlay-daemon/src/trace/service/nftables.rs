//! kube-proxy's table in its nftables mode, as `nft -j` prints it (kubernetes: `pkg/proxy/nftables/proxier.go`).

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use super::{Port, Rules};

/// Reads the table: maps from (address, protocol, port) to the chain of a Service, which leads to chains of endpoints.
pub(super) fn rules(text: &str) -> Rules {
    let document: Value = serde_json::from_str(text).unwrap_or_default();
    let all = document["nftables"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let elements = |map: &str| -> Vec<&Value> {
        let maps = all.iter().map(|object| &object["map"]);
        let named = maps.filter(|found| found["name"] == map);
        named
            .filter_map(|found| found["elem"].as_array())
            .flatten()
            .collect()
    };
    let mut ports = Vec::new();
    for element in elements("service-ips") {
        let chain = target(&element[1]).unwrap_or_default();
        ports.extend(port(element, chain, backends(all, chain)));
    }
    for element in elements("no-endpoint-services") {
        ports.extend(port(element, "", Vec::new()));
    }
    Rules {
        form: "nftables",
        ports,
        // Its own base chains are in the table: where one is, all are.
        is_entered: [true, true],
        ..Rules::default()
    }
}

/// An element's key, with a comment or without, and the Service that the chain's or the comment's name says.
fn port(element: &Value, chain: &str, backends: Vec<SocketAddr>) -> Option<Port> {
    let key = &element[0];
    let parts = key["elem"]["val"]["concat"]
        .as_array()
        .or_else(|| key["concat"].as_array())?;
    let [address, protocol, port] = &parts[..] else {
        return None;
    };
    let comment = key["elem"]["comment"].as_str();
    // `service-HASH-namespace/name/protocol/port`, cut where it would be too long.
    let named = chain.splitn(3, '-').nth(2).or(comment).unwrap_or(chain);
    let mut words = named.split('/');
    let name = match (words.next(), words.next(), words.nth(1)) {
        (Some(namespace), Some(name), Some(port)) if !port.is_empty() => {
            format!("{namespace}/{name}:{port}")
        }
        _ => named.to_owned(),
    };
    Some(Port {
        name,
        address: address.as_str()?.parse().ok()?,
        port: port.as_u64()?.try_into().ok()?,
        protocol: protocol.as_str()?.to_owned(),
        backends,
    })
}

fn backends(all: &[Value], chain: &str) -> Vec<SocketAddr> {
    let of_chain = |name: &str| {
        let rules = all.iter().map(|object| &object["rule"]);
        let name = name.to_owned();
        rules
            .filter(move |rule| rule["chain"] == name.as_str())
            .map(|rule| &rule["expr"])
    };
    let mut targets = Vec::new();
    of_chain(chain).for_each(|rule| collect(rule, &mut targets));
    let endpoints = targets
        .into_iter()
        .filter(|name| name.starts_with("endpoint-"));
    let mut found: Vec<SocketAddr> = Vec::new();
    for endpoint in endpoints {
        for rule in of_chain(endpoint) {
            let dnat = rule
                .as_array()
                .into_iter()
                .flatten()
                .map(|part| &part["dnat"]);
            found.extend(dnat.filter_map(to));
        }
    }
    found.dedup();
    found
}

fn to(dnat: &Value) -> Option<SocketAddr> {
    let address: IpAddr = dnat["addr"].as_str()?.parse().ok()?;
    let port = dnat["port"].as_u64()?.try_into().ok()?;
    Some(SocketAddr::new(address, port))
}

fn target(verdict: &Value) -> Option<&str> {
    let jump = verdict.get("goto").or_else(|| verdict.get("jump"))?;
    jump["target"].as_str()
}

/// The targets of all verdicts in a rule, also those in its maps.
fn collect<'a>(value: &'a Value, targets: &mut Vec<&'a str>) {
    targets.extend(target(value));
    match value {
        Value::Array(values) => values.iter().for_each(|value| collect(value, targets)),
        Value::Object(values) => values.values().for_each(|value| collect(value, targets)),
        _ => {}
    }
}
