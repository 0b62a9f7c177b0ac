//! A node changes over from the Go plugins with pods running: these added the pods, ours delete them, or collect those
//! that nobody deleted. (`tuning` has its case beside its others.)
mod portmap;
mod whole;

use std::process::ExitCode;

use anyhow::ensure;
use lab::chain::{Attached, Chain};
use lab::inspect::{ruleset, sh};
use lab::{Case, Need, Plugins, Result, conf, with_prev};
use serde_json::{Value, json};

/// What `bandwidth` needs of the kernel.
const LIMITS: [Need; 2] = [Need::Link("ifb"), Need::Qdisc("tbf")];

fn main() -> ExitCode {
    let needs = [
        Need::HeddleCni,
        Need::Program("ip"),
        Need::Program("nft"),
        Need::Program("iptables"),
        Need::Program("ip6tables"),
    ];
    let case = |name, body, kind| {
        Case::new(name, body)
            .needs(needs)
            .needs([Need::Reference(kind)])
    };
    lab::main([
        case("portmap_by_iptables", portmap::by_iptables, "portmap"),
        case("portmap_by_nftables", portmap::by_nftables, "portmap"),
        case("firewall", firewall, "firewall"),
        case("bandwidth", bandwidth, "bandwidth").needs(LIMITS),
        case(
            "masquerade_by_nftables",
            whole::masquerade_by_nftables,
            "bridge",
        )
        .needs(LIMITS),
        case(
            "whole_chain_theirs_by_ours",
            whole::theirs_by_ours,
            "bridge",
        )
        .needs(LIMITS),
        case(
            "whole_chain_ours_by_theirs",
            whole::ours_by_theirs,
            "bridge",
        )
        .needs(LIMITS),
    ])
}

/// A call of the Go plugin for a pod, in a version that all of its releases know.
fn reference(chain: &Chain, verb: &str, conf: &Value, to: &Attached) -> Result {
    let version = json!({"cniVersion": "1.0.0"});
    let result = conf::with(to.result.clone(), version.clone());
    let conf = conf::with(with_prev(conf, &result), version);
    let call = Plugins::reference(&chain.node).call(verb, &conf);
    call.pod(&to.pod).send()?.done()
}

/// Our DEL as a runtime makes it that has kept all, or nothing, and lost the namespace.
fn del(chain: &Chain, conf: &Value, to: &Attached, with_all: bool) -> Result {
    if with_all {
        return chain.del(conf, to);
    }
    let bare = conf::with(conf.clone(), json!({"runtimeConfig": null}));
    chain
        .plugins
        .call("DEL", &bare)
        .pod(&to.pod)
        .netns("")
        .send()?
        .done()
}

/// Its rules know the address only, so a DEL that does not say it leaves them, as the Go plugin's does.
fn firewall() -> Result {
    let chain = Chain::new()?;
    sh(
        chain.node.space(),
        "iptables -P FORWARD DROP; ip6tables -P FORWARD DROP",
    )?;
    let (stays, goes) = (chain.attach("stays")?, chain.attach("goes")?);
    let conf =
        json!({"cniVersion": "1.1.0", "name": "lab", "type": "firewall", "backend": "iptables"});
    reference(&chain, "ADD", &conf, &stays)?;
    let before = chain.snapshot()?;
    reference(&chain, "ADD", &conf, &goes)?;
    ensure!(
        ruleset(chain.node.space())?.contains(&goes.address(1)?.to_string()),
        "the premise"
    );
    for _ in 0..2 {
        del(&chain, &conf, &goes, true)?;
        chain.snapshot()?.same_as(&before)?;
    }
    // Another pod that ours added meanwhile is left alone.
    let new = chain.attach("new")?;
    let before = chain.snapshot()?;
    chain.add(&conf, &new)?;
    chain.del(&conf, &new)?;
    chain.snapshot()?.same_as(&before)
}

fn bandwidth() -> Result {
    let chain = Chain::new()?;
    let rate = 8_000_000;
    let conf = json!({
        "cniVersion": "1.1.0", "name": "lab", "type": "bandwidth",
        "ingressRate": rate, "ingressBurst": rate, "egressRate": rate, "egressBurst": rate,
    });
    let (stays, goes) = (chain.attach("stays")?, chain.attach("goes")?);
    reference(&chain, "ADD", &conf, &stays)?;
    for with_all in [true, false] {
        let before = chain.snapshot()?.without(&["qdisc"]);
        reference(&chain, "ADD", &conf, &goes)?;
        for _ in 0..2 {
            del(&chain, &conf, &goes, with_all)?;
            chain.snapshot()?.without(&["qdisc"]).same_as(&before)?;
        }
        // The link on the host, and with it its queues, goes with the pod.
        sh(
            chain.node.space(),
            &format!(
                "tc qdisc delete dev {0} root; tc qdisc delete dev {0} ingress || true",
                goes.host_link()?
            ),
        )
        .ok();
    }
    // One whose pod is gone, of another network than that of a pod that is not named but there.
    let ifbs = || -> Result<usize> {
        Ok(sh(chain.node.space(), "ip -br link show type ifb")?
            .lines()
            .count())
    };
    let other = conf::with(conf.clone(), json!({"name": "other"}));
    reference(&chain, "ADD", &other, &goes)?;
    let dead = chain.attach("dead")?;
    reference(&chain, "ADD", &conf, &dead)?;
    chain.detach(&dead)?;
    ensure!(ifbs()? == 3, "the premise");
    for _ in 0..2 {
        chain.plugins.gc(&conf, &[("stays", "eth0")])?.done()?;
        ensure!(ifbs()? == 2, "{}", sh(chain.node.space(), "ip link")?);
    }
    Ok(())
}
