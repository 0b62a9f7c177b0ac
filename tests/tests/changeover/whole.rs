//! The whole chain, from the Go plugins to ours and back, beside a pod of either that stays.
use std::time::Duration;

use anyhow::{Context, ensure};
use lab::inspect::{ruleset, sh};
use lab::whole_chain::WholeChain;
use lab::{Node, Plugins, Pod, Result, Snapshot, conf, wait};
use serde_json::{Value, json};
use sha2::{Digest, Sha512};

const PATIENCE: Duration = Duration::from_secs(10);

/// One node with both kinds of plugins, and the same configurations for both.
struct Scene {
    node: Node,
    ours: WholeChain,
    theirs: WholeChain,
}

/// What all releases of the Go plugins know; ports and rates are the pod's own.
fn confs(port: u16) -> Vec<Value> {
    let plugin = |kind: &str, keys: Value| {
        conf::with(
            json!({"cniVersion": "1.0.0", "name": "lab", "type": kind}),
            keys,
        )
    };
    let mapping =
        |protocol: &str| json!({"hostPort": port, "containerPort": 80, "protocol": protocol});
    let rate = 100_000_000;
    vec![
        conf::bridge(json!({
            "cniVersion": "1.0.0", "isDefaultGateway": true, "ipMasq": true, "hairpinMode": true, "ipam": conf::dual_stack(),
        })),
        plugin(
            "portmap",
            json!({"runtimeConfig": {"portMappings": [mapping("tcp"), mapping("udp")]}}),
        ),
        plugin("firewall", json!({"backend": "iptables"})),
        plugin(
            "bandwidth",
            json!({"ingressRate": rate, "ingressBurst": rate, "egressRate": rate, "egressBurst": rate}),
        ),
    ]
}

impl Scene {
    fn new() -> Result<Scene> {
        let node = Node::new("node")?;
        let ours = Plugins::heddle(&node)?;
        sh(
            node.space(),
            "iptables -P FORWARD DROP; ip6tables -P FORWARD DROP; sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
        )?;
        let of = |plugins: Plugins| WholeChain {
            node: node.clone(),
            plugins,
            confs: confs(8080),
        };
        let scene = Scene {
            ours: of(ours),
            theirs: of(Plugins::reference(&node)),
            node,
        };
        // A first pod of each, so that what stays on purpose is there.
        for chain in [&scene.theirs, &scene.ours] {
            let first = scene.node.pod("first")?;
            let result = chain.add(&first)?;
            chain.del(&first, Some(&result))?;
            first.unmount(false)?;
        }
        Ok(scene)
    }

    /// A pod of each kind.
    fn both_stay(&self) -> Result<[Pod; 2]> {
        Ok([
            self.stays(&self.theirs, "theirs", 8081)?,
            self.stays(&self.ours, "ours", 8082)?,
        ])
    }

    /// A pod that stays, with a port of its own.
    fn stays(&self, chain: &WholeChain, name: &str, port: u16) -> Result<Pod> {
        let pod = self.node.pod(name)?;
        let mut chain = chain.clone();
        chain.confs = confs(port);
        chain.add(&pod)?;
        Ok(pod)
    }

    /// Our GC, by a configuration of a version that has it.
    fn gc(&self) -> Result {
        let mut chain = self.ours.clone();
        for conf in &mut chain.confs {
            conf["cniVersion"] = "1.1.0".into();
        }
        chain.gc(&["theirs", "ours"])
    }

    /// Their bridge's address is a route only once the kernel knows that nobody else has it.
    fn snapshot(&self) -> Result<Snapshot> {
        wait::until(PATIENCE, "an address of the bridge's own", || {
            let tentative = sh(self.node.space(), "ip -6 address show tentative")?;
            ensure!(tentative.is_empty(), "{tentative}");
            Ok(())
        })?;
        Ok(self.ours.snapshot()?.without(&["/run/xtables.lock"]))
    }
}

/// DEL with all that the runtime has kept, DEL with nothing, and GC, of pods that the Go plugins have added. CHECK says plugin
/// for plugin that a pod is not as ours would have made it.
pub fn theirs_by_ours() -> Result {
    let scene = Scene::new()?;
    let Scene { ours, theirs, .. } = &scene;
    let _stay = scene.both_stay()?;
    let before = scene.snapshot()?;
    let pod = scene.node.pod("x")?;
    let result = theirs.add(&pod)?;
    ensure!(ruleset(scene.node.space())?.contains("CNI-"), "the premise");
    for plugin in 0..ours.confs.len() {
        let reply = ours.call("CHECK", plugin, &pod, Some(&result)).send()?;
        let (code, message) = reply.failure()?;
        ensure!(code == 999, "{code}: {message}");
    }
    for _ in 0..2 {
        ours.del(&pod, Some(&result))?;
        let now = scene.snapshot()?;
        now.same_as(&before).context("DEL with all")?;
    }
    // The rules of their `firewall` know nothing but the address: they stay when nobody says it.
    let known = |snapshot: Snapshot| snapshot.without(&["\"chain\":\"CNI-FORWARD\""]);
    let before = known(before);
    theirs.add(&pod)?;
    ours.del(&pod, None)?;
    known(scene.snapshot()?)
        .same_as(&before)
        .context("DEL with nothing")?;
    theirs.add(&pod)?;
    // Its network namespace, and with that the link, goes without a DEL.
    sh(pod.space(), "ip link delete eth0")?;
    pod.unmount(false)?;
    for _ in 0..2 {
        scene.gc()?;
        let now = known(scene.snapshot()?);
        now.same_as(&before).context("GC")?;
    }
    Ok(())
}

/// DEL of the Go plugins' of pods that ours have added; GC of ours takes what they do not know.
pub fn ours_by_theirs() -> Result {
    let scene = Scene::new()?;
    let Scene { ours, theirs, .. } = &scene;
    let _stay = scene.both_stay()?;
    let before = scene.snapshot()?;
    let pod = scene.node.pod("x")?;
    for with_all in [true, false] {
        let result = ours.add(&pod)?;
        let kept = Some(&result).filter(|_| with_all);
        for plugin in (1..theirs.confs.len()).rev() {
            theirs.call("DEL", plugin, &pod, kept).send()?.done()?;
        }
        // Releases before 1.9 take what `iptables` says of a chain that is not there for a failure, after all else is done.
        let first = theirs.call("DEL", 0, &pod, kept).send()?;
        if !first.is_success() {
            let (_, message) = first.failure()?;
            ensure!(message.contains("does not exist"), "{message}");
            theirs.call("DEL", 0, &pod, kept).send()?.done()?;
        }
        let link = sh(scene.node.space(), "ip -o link show master cbr0")?;
        ensure!(link.lines().count() == 2, "{link}");
        scene.gc()?;
        let now = scene.snapshot()?;
        now.same_as(&before).context("our GC after their DEL")?;
    }
    Ok(())
}

/// Their masquerading by nftables, of releases since 1.6, as these write it.
pub fn masquerade_by_nftables() -> Result {
    let scene = Scene::new()?;
    let rules = || ruleset(scene.node.space());
    sh(
        scene.node.space(),
        "nft 'table inet cni_plugins_masquerade { chain masq_checks { }; chain postrouting { type nat hook postrouting priority srcnat; goto masq_checks; }; }'",
    )?;
    let digest = |text: &str| -> String {
        let digest = Sha512::digest(text);
        digest
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    };
    let add = |network: &str, id: &str, last: u8| -> Result {
        let comment = format!(
            "{}-{}, net: {network}, if: eth0, id: {id}",
            digest(network),
            digest(&format!("eth0:{id}"))
        );
        let rule = format!(
            "ip saddr 10.88.0.{last} ip daddr != 10.88.0.0/24 masquerade comment \"{comment}\""
        );
        let mut nft = scene.node.command("nft");
        let line = format!("add rule inet cni_plugins_masquerade masq_checks {rule}");
        nft.args(["-f", "-"]).stdin(line).ok().map(drop)
    };
    add("lab", "theirs", 20)?;
    add("other", "x", 21)?;
    let before = rules()?;
    let pod = scene.node.pod("x")?;
    add("lab", "x", 22)?;
    for _ in 0..2 {
        scene.ours.del(&pod, None)?;
        ensure!(rules()? == before, "DEL: {}", rules()?);
    }
    add("lab", "x", 22)?;
    for _ in 0..2 {
        scene.gc()?;
        ensure!(rules()? == before, "GC: {}", rules()?);
    }
    Ok(())
}
