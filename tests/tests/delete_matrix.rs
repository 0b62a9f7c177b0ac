//! DEL in every condition a runtime brings it into: it succeeds, also again, and leaves nothing behind.
use std::panic::resume_unwind;
use std::process::ExitCode;

use lab::inspect::sh;
use lab::{Case, Need, Node, Plugins, Pod, Result, Snapshot, conf, with_prev};
use serde_json::{Value, json};

fn main() -> ExitCode {
    let needs = [Need::HeddleCni, Need::Program("ip"), Need::Program("nft")];
    let case = |name, body| Case::new(name, body).needs(needs);
    lab::main([
        case("bridge_in_every_condition", bridge_in_every_condition),
        case("layer_2_in_every_condition", layer_2_in_every_condition),
        case(
            "host_local_in_every_condition",
            host_local_in_every_condition,
        ),
        case("loopback_in_every_condition", loopback_in_every_condition),
        case("three_deletes_at_once", three_deletes_at_once),
        case(
            "the_hosts_own_namespace_is_never_touched",
            the_hosts_own_namespace_is_never_touched,
        ),
        case(
            "a_pair_of_the_reference_is_deleted",
            a_pair_of_the_reference_is_deleted,
        )
        .needs(["bridge", "host-local"].map(Need::Reference)),
        case(
            "gc_removes_the_stale_and_nothing_else",
            gc_removes_the_stale_and_nothing_else,
        ),
    ])
}

/// What has happened to the pod before its DEL.
#[derive(Clone, Copy, Debug)]
enum Netns {
    Present,
    Empty,
    Missing,
    PlainFile,
    LinkGone,
}

/// What the runtime gives beside the configuration that ADD had.
#[derive(Clone, Copy, Debug)]
enum Conf {
    WithPrevResult,
    WithoutPrevResult,
    /// Keys that ADD would refuse now, and other ranges.
    Broken,
}

const CONDITIONS: [Netns; 5] = [
    Netns::Present,
    Netns::Empty,
    Netns::Missing,
    Netns::PlainFile,
    Netns::LinkGone,
];
const CONFS: [Conf; 3] = [Conf::WithPrevResult, Conf::WithoutPrevResult, Conf::Broken];

/// Adds pod `x` beside pod `stays`, brings it into each condition, deletes it twice, and compares the node
/// with what it was before `x` came.
fn every_condition(conf: &Value, broken: &Value) -> Result {
    let node = Node::new("node")?;
    let plugins = Plugins::heddle(&node)?;
    let stays = node.pod("stays")?;
    plugins.add(conf, &stays)?.done()?;
    // Which address came last is remembered; so is the order of the pods that came before.
    warm_up(&plugins, conf, &node.pod("warm")?)?;
    let before = snapshot(&node)?;
    for netns in CONDITIONS {
        for how in CONFS {
            let name = format!("{netns:?}-{how:?}");
            let pod = node.pod(&name)?;
            let result = plugins.add(conf, &pod)?.result()?;
            let after = snapshot(&node)?;
            assert!(after.same_as(&before).is_err(), "ADD did nothing");
            let conf = match how {
                Conf::WithPrevResult => with_prev(conf, &result),
                Conf::WithoutPrevResult => conf.clone(),
                Conf::Broken => broken.clone(),
            };
            let netns_now = bring_into(&pod, netns)?;
            for time in ["first", "second"] {
                let call = plugins.call("DEL", &conf).pod(&pod).netns(&netns_now);
                let deleted = call.send()?;
                deleted
                    .done()
                    .map_err(|error| error.context(format!("{name}, {time} DEL")))?;
                assert_eq!(deleted.output.stdout, "", "DEL prints nothing");
            }
            drop_name(&pod);
            snapshot(&node)?
                .same_as(&before)
                .map_err(|error| error.context(name))?;
        }
    }
    Ok(())
}

fn warm_up(plugins: &Plugins, conf: &Value, pod: &Pod) -> Result {
    plugins.add(conf, pod)?.done()?;
    plugins.del(conf, pod)?.done()?;
    pod.unmount(false)
}

fn snapshot(node: &Node) -> Result<Snapshot> {
    // The last address given out is remembered on purpose.
    Ok(Snapshot::of(node.space())?.without(&["last_reserved_ip"]))
}

fn bring_into(pod: &Pod, netns: Netns) -> Result<String> {
    let path = pod.netns().to_string_lossy().into_owned();
    match netns {
        Netns::Present => Ok(path),
        Netns::Empty => Ok(String::new()),
        Netns::Missing => pod.unmount(false).map(|()| path),
        Netns::PlainFile => pod.unmount(true).map(|()| path),
        Netns::LinkGone => sh(pod.space(), "ip link delete eth0 2>/dev/null || true").map(|_| path),
    }
}

/// Takes the pod's name away, in whatever state it is.
fn drop_name(pod: &Pod) {
    let _ = pod.unmount(false);
    pod.node().run(|| {
        let _ = std::fs::remove_file(pod.netns());
    });
}

fn bridge_in_every_condition() -> Result {
    let conf = conf::bridge(json!({
        "isDefaultGateway": true, "ipMasq": true, "macspoofchk": true, "hairpinMode": true, "ipam": conf::dual_stack(),
    }));
    let mut broken = conf::with(
        conf.clone(),
        json!({"mtu": -5, "hairpinMode": true, "promiscMode": true, "ipMasq": false}),
    );
    broken["ipam"]["ranges"] = json!([[{"subnet": "10.1.2.3/24"}]]);
    every_condition(&conf, &broken)
}

fn layer_2_in_every_condition() -> Result {
    let conf = conf::bridge(json!({"ipam": null}));
    every_condition(&conf, &conf::with(conf.clone(), json!({"vlan": 99999})))
}

fn host_local_in_every_condition() -> Result {
    let conf = json!({"cniVersion": "1.0.0", "name": "leases", "type": "host-local", "ipam": conf::dual_stack()});
    let broken = conf::with(
        conf.clone(),
        json!({"ipam": {"type": "host-local", "ranges": [[{"subnet": "nonsense"}]]}}),
    );
    every_condition(&conf, &broken)
}

fn loopback_in_every_condition() -> Result {
    let node = Node::new("node")?;
    let plugins = Plugins::heddle(&node)?;
    let conf = json!({"cniVersion": "1.0.0", "name": "lo", "type": "loopback"});
    for netns in CONDITIONS {
        let pod = node.pod(&format!("{netns:?}"))?;
        plugins.add(&conf, &pod)?.done()?;
        let netns = bring_into(&pod, netns)?;
        for _ in 0..2 {
            plugins
                .call("DEL", &conf)
                .pod(&pod)
                .netns(&netns)
                .send()?
                .done()?;
        }
        let shown = lab::inspect::ip_one(node.space(), "link show dev lo")?.to_string();
        assert!(shown.contains("LOWER_UP"), "the host's lo is down: {shown}");
    }
    Ok(())
}

fn three_deletes_at_once() -> Result {
    let node = Node::new("node")?;
    let plugins = Plugins::heddle(&node)?;
    let conf = conf::bridge(json!({"isGateway": true, "ipMasq": true, "macspoofchk": true}));
    warm_up(&plugins, &conf, &node.pod("warm")?)?;
    for round in 0..10 {
        let before = snapshot(&node)?;
        let pod = node.pod(&format!("p{round}"))?;
        plugins.add(&conf, &pod)?.done()?;
        let replies: Vec<_> = std::thread::scope(|scope| {
            let calls: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| plugins.del(&conf, &pod)))
                .collect();
            calls
                .into_iter()
                .map(|call| call.join().unwrap_or_else(|panic| resume_unwind(panic)))
                .collect()
        });
        for reply in replies {
            reply?.done()?;
        }
        pod.unmount(false)?;
        snapshot(&node)?.same_as(&before)?;
    }
    Ok(())
}

fn the_hosts_own_namespace_is_never_touched() -> Result {
    let node = Node::new("node")?;
    let plugins = Plugins::heddle(&node)?;
    sh(
        node.space(),
        "ip link add eth0 type veth peer name x; touch /run/netns/self; mount --bind /proc/self/ns/net /run/netns/self",
    )?;
    let before = Snapshot::of(node.space())?;
    for conf in [
        conf::bridge(json!({})),
        json!({"cniVersion": "1.0.0", "name": "lo", "type": "loopback"}),
    ] {
        let call = |verb| {
            plugins
                .call(verb, &conf)
                .id("x")
                .ifname("eth0")
                .netns("/run/netns/self")
        };
        let (code, message) = call("ADD").send()?.failure()?;
        assert!(
            code == 8 && message.contains("CNI_NETNS_OVERRIDE"),
            "{code}: {message}"
        );
        let _ = call("DEL").send()?;
        Snapshot::of(node.space())?.same_as(&before)?;
    }
    Ok(())
}

/// A node that changes over with pods running: the pair has a random name, the lease is the reference's.
fn a_pair_of_the_reference_is_deleted() -> Result {
    let node = Node::new("node")?;
    let (ours, theirs) = (Plugins::heddle(&node)?, Plugins::reference(&node));
    let conf = conf::with(
        conf::bridge(json!({"isGateway": true})),
        json!({"cniVersion": "1.0.0"}),
    );
    warm_up(&theirs, &conf, &node.pod("warm")?)?;
    let pod = node.pod("theirs")?;
    // The directory of our index is made by our first call.
    ours.del(&conf, &pod)?.done()?;
    let before = snapshot(&node)?;
    theirs.add(&conf, &pod)?.done()?;
    ours.del(&conf, &pod)?.done()?;
    snapshot(&node)?.same_as(&before)
}

fn gc_removes_the_stale_and_nothing_else() -> Result {
    let node = Node::new("node")?;
    let plugins = Plugins::heddle(&node)?;
    let conf = conf::bridge(
        json!({"isGateway": true, "ipMasq": true, "macspoofchk": true, "ipam": conf::dual_stack()}),
    );
    let other = conf::with(
        conf.clone(),
        json!({"name": "other", "ipam": {"type": "host-local", "subnet": "10.99.0.0/24"}}),
    );
    plugins.add(&conf, &node.pod("live")?)?.done()?;
    plugins.add(&other, &node.pod("elsewhere")?)?.done()?;
    warm_up(&plugins, &conf, &node.pod("warm")?)?;
    let before = snapshot(&node)?.without(&["/run/netns"]);
    for name in ["stale1", "stale2", "stale3"] {
        plugins.add(&conf, &node.pod(name)?)?.done()?;
    }
    // Without the list there is nothing to go by.
    let full = snapshot(&node)?;
    plugins.call("GC", &conf).send()?.done()?;
    snapshot(&node)?.same_as(&full)?;
    plugins.gc(&conf, &[("live", "eth0")])?.done()?;
    snapshot(&node)?.without(&["/run/netns"]).same_as(&before)?;
    plugins.gc(&conf, &[("live", "eth0")])?.done()?;
    snapshot(&node)?.without(&["/run/netns"]).same_as(&before)
}
