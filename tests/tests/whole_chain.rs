//! The chain as podman and a cluster's conflist have it, through a runtime: bridge, portmap, firewall, bandwidth,
//! tuning, one after the other, with the runtime's capabilities, and backwards.
use std::process::ExitCode;

use anyhow::{Context, ensure};
use lab::chain::Chain;
use lab::inspect::{ip_one, sh};
use lab::probe::{TcpEcho, exchange};
use lab::{Case, Need, Result, conf};
use serde_json::{Value, json};

fn main() -> ExitCode {
    let needs = [
        Need::HeddleCni,
        Need::Program("ip"),
        Need::Program("nft"),
        Need::Program("iptables"),
        Need::Link("ifb"),
    ];
    lab::main([Case::new("all_five_in_a_row", all_five_in_a_row).needs(needs)])
}

fn all_five_in_a_row() -> Result {
    let chain = Chain::new()?;
    sh(chain.node.space(), "iptables -P FORWARD DROP")?;
    let mut bridge = conf::bridge(json!({
        "isDefaultGateway": true, "ipMasq": true, "hairpinMode": true, "ipam": conf::dual_stack(),
        "cniVersion": null, "name": null,
    }));
    bridge["bridge"] = "cbr0".into();
    let list = json!({"cniVersion": "1.0.0", "name": "chain", "plugins": [
        bridge,
        {"type": "portmap", "capabilities": {"portMappings": true}},
        {"type": "firewall", "ingressPolicy": "same-bridge"},
        {"type": "bandwidth", "capabilities": {"bandwidth": true}},
        {"type": "tuning", "mtu": 1400, "sysctl": {"net.core.somaxconn": "500"}},
    ]});
    chain
        .node
        .run(|| std::fs::write("/etc/cni/net.d/10-chain.conflist", list.to_string()))?;
    let capabilities = json!({
        "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
        "bandwidth": {"ingressRate": 100_000_000, "ingressBurst": i32::MAX, "egressRate": 100_000_000, "egressBurst": i32::MAX},
    });
    let cnitool = |verb: &str| {
        let mut command = chain.node.command("/opt/cni/bin/heddle-cni");
        command.args(["cnitool", verb, "chain", "/run/netns/pod"]);
        command.env("NETCONFPATH", "/etc/cni/net.d");
        command.env("CNI_PATH", "/opt/cni/bin");
        command.env("CAP_ARGS", capabilities.to_string());
        command.ok().with_context(|| verb.to_owned())
    };
    // The first round leaves the directories that are there to stay.
    let pod = chain.node.pod("pod")?;
    for round in 0..3 {
        let before = chain.snapshot()?;
        let result: Value = serde_json::from_str(&cnitool("add")?)?;
        assert_eq!(
            result["interfaces"].as_array().map(Vec::len),
            Some(4),
            "bridge, both ends, ifb: {result}"
        );
        assert_eq!(
            ip_one(pod.space(), "link show dev eth0")?["mtu"],
            1400,
            "the last of the chain"
        );
        let server = TcpEcho::start(pod.space(), "0.0.0.0:80".parse()?)?;
        for (place, to) in [
            (chain.world.space(), "192.0.2.1:8080"),
            (chain.node.space(), "127.0.0.1:8080"),
            (pod.space(), "192.0.2.1:8080"),
        ] {
            exchange(place, to.parse()?, &[1; 100_000])
                .with_context(|| format!("{to} from {}", place.name()))?;
        }
        drop(server);
        let outside = TcpEcho::start(chain.world.space(), "192.0.2.2:0".parse()?)?;
        let seen = exchange(pod.space(), outside.address(), b"hello")?.seen;
        assert_eq!(seen.ip().to_string(), "192.0.2.1", "masqueraded");
        cnitool("check")?;
        cnitool("del")?;
        cnitool("del")?;
        if round > 0 {
            chain.snapshot()?.same_as(&before)?;
        }
        ensure!(!sh(chain.node.space(), "ip link")?.contains("bwp"));
    }
    Ok(())
}
