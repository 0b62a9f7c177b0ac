//! ADD with one system call failing, each in its turn: it fails cleanly or succeeds whole, and a retry works.
mod chain;
mod overtaken;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use lab::inspect::sh;
use lab::whole_chain::NEEDS;
use lab::{Case, Fault, Need, Node, Plugins, Result, Snapshot, Trace, conf, wait};
use serde_json::{Value, json};

/// What is made to fail, and with what.
const FAULTS: [(&str, &str); 9] = [
    ("sendto", "ENOBUFS"),
    ("socket", "EMFILE"),
    ("open", "EIO"),
    ("write", "ENOSPC"),
    ("linkat", "ENOSPC"),
    ("link", "ENOSPC"),
    ("symlink", "ENOSPC"),
    ("mkdir", "EACCES"),
    ("setns", "EPERM"),
];

fn main() -> ExitCode {
    let needs = [
        Need::HeddleCni,
        Need::Program("strace"),
        Need::Program("ip"),
        Need::Program("nft"),
    ];
    let case = |name, body| Case::new(name, body).needs(needs);
    lab::main([
        case(
            "bridge_add_with_each_call_failing",
            bridge_add_with_each_call_failing,
        ),
        case(
            "host_local_add_with_each_call_failing",
            host_local_add_with_each_call_failing,
        ),
        case(
            "nothing_is_executed_for_a_pod",
            nothing_is_executed_for_a_pod,
        ),
        case(
            "an_ipam_of_somebody_else_is_undone",
            an_ipam_of_somebody_else_is_undone,
        ),
        case("chain_add_with_each_failure", chain::add).needs(NEEDS),
        case("chain_del_with_each_failure", chain::del).needs(NEEDS),
        case("chain_gc_with_each_failure", chain::gc).needs(NEEDS),
        case("a_del_that_is_always_overtaken", overtaken::del).needs(NEEDS),
    ])
}

fn bridge_add_with_each_call_failing() -> Result {
    each_call_failing(&conf::bridge(json!({
        "isDefaultGateway": true, "ipMasq": true, "macspoofchk": true, "hairpinMode": true, "ipam": conf::dual_stack(),
    })))
}

fn host_local_add_with_each_call_failing() -> Result {
    each_call_failing(
        &json!({"cniVersion": "1.0.0", "name": "leases", "type": "host-local", "ipam": conf::dual_stack()}),
    )
}

/// On a node that has never seen a pod (so that the bridge and the tables are made too) and on one that has.
fn each_call_failing(conf: &Value) -> Result {
    for fresh in [true, false] {
        for fault in system_calls(conf, fresh)?.faults(&FAULTS) {
            let what = format!("{fault}, fresh node: {fresh}");
            one_fault(conf, fresh, fault).map_err(|error| error.context(what))?;
        }
    }
    Ok(())
}

fn node(conf: &Value, fresh: bool) -> Result<(Node, Plugins)> {
    let node = Node::new("node")?;
    let plugins = Plugins::heddle(&node)?;
    if !fresh {
        let result = plugins.add(conf, &node.pod("first")?)?.result()?;
        // host-local alone makes no link that could have them.
        let interfaces = result["interfaces"].as_array();
        let gateways = interfaces
            .and(result["ips"].as_array())
            .into_iter()
            .flatten();
        for gateway in gateways.filter_map(|ip| ip["gateway"].as_str()) {
            // The kernel makes this route in its own time where it is one of IPv6.
            wait::until(
                Duration::from_secs(5),
                "the route to the gateway itself",
                || {
                    let routes = sh(
                        node.space(),
                        "ip route show table local; ip -6 route show table local",
                    )?;
                    ensure!(routes.contains(&format!("local {gateway} ")), "{routes}");
                    Ok(())
                },
            )?;
        }
    }
    Ok((node, plugins))
}

fn system_calls(conf: &Value, fresh: bool) -> Result<Trace> {
    let (node, plugins) = node(conf, fresh)?;
    let pod = node.pod("counted")?;
    let reply = plugins.call("ADD", conf).pod(&pod).traced().send()?;
    reply.done()?;
    Ok(reply.trace)
}

fn one_fault(conf: &Value, fresh: bool, fault: Fault) -> Result {
    let (node, plugins) = node(conf, fresh)?;
    let pod = node.pod("x")?;
    let before = state(&node)?;
    let reply = plugins.call("ADD", conf).pod(&pod).fault(fault).send()?;
    if reply.is_success() {
        // The failure did not matter, or was tried again.
        let result = reply.result()?;
        plugins.check(conf, &pod, &result)?.done()?;
        plugins.del(conf, &pod)?.done()?;
    } else {
        // Where stdout itself is what fails, stderr has to do; and as the result was complete, what was
        // made for all pods stays.
        if reply.output.stdout.is_empty() && reply.output.stderr.contains("stdout") {
            state(&node)?
                .without(&["cbr0"])
                .same_as(&before.without(&["cbr0"]))?;
        } else {
            let (code, message) = reply.failure()?;
            anyhow::ensure!(!message.contains("panick"), "{code}: {message}");
            state(&node)?.same_as(&before)?;
        }
        let inside = lab::inspect::ip(pod.space(), "link show dev eth0");
        anyhow::ensure!(inside.is_err(), "eth0 stayed in the pod");
    }
    let result = plugins.add(conf, &pod)?.result()?;
    plugins.check(conf, &pod, &result)?.done()?;
    plugins.del(conf, &pod)?.done()
}

/// Without what an ADD may rightly leave: the empty directories of leases and index, the lock, and which
/// address was last; and forwarding, which the next pod needs anyway.
fn state(node: &Node) -> Result<Snapshot> {
    let snapshot = Snapshot::of(node.space())?;
    let directories = [
        "last_reserved_ip",
        "/lock ",
        "networks/ ",
        "networks/lab/ ",
        "networks/leases/ ",
        ".heddle/ ",
        ".heddle/lab/ ",
        ".heddle/leases/ ",
        "strace",
    ];
    Ok(snapshot
        .without(&directories)
        .without(&["forwarding", "ip_forward"]))
}

fn nothing_is_executed_for_a_pod() -> Result {
    let node = Node::new("node")?;
    let plugins = Plugins::heddle(&node)?;
    let conf = conf::bridge(
        json!({"isDefaultGateway": true, "ipMasq": true, "macspoofchk": true, "ipam": conf::dual_stack()}),
    );
    let pod = node.pod("x")?;
    for verb in ["ADD", "DEL"] {
        let reply = plugins.call(verb, &conf).pod(&pod).traced().send()?;
        reply.done()?;
        assert_eq!(
            (reply.trace.programs(), reply.trace.forks()),
            (0, 0),
            "{verb}: {:#?}",
            reply.trace.lines()
        );
    }
    Ok(())
}

/// Its DEL is called when a later step of its caller's ADD fails.
fn an_ipam_of_somebody_else_is_undone() -> Result {
    let node = Node::new("node")?;
    let plugins = Plugins::heddle(&node)?.with_path("/run/theirs:/opt/cni/bin");
    let script = "#!/bin/sh\necho $CNI_COMMAND >> /run/theirs/log\n[ $CNI_COMMAND = ADD ] && echo '{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"10.5.0.9/24\",\"gateway\":\"10.6.0.1\"}],\"routes\":[{\"dst\":\"0.0.0.0/0\"}]}'\nexit 0\n";
    node.run(|| -> Result {
        std::fs::create_dir("/run/theirs")?;
        std::fs::write("/run/theirs/foreign-ipam", script)?;
        Ok(())
    })?;
    lab::inspect::sh(node.space(), "chmod 755 /run/theirs/foreign-ipam")?;
    // Its gateway is not in its subnet, so the kernel refuses the route.
    let conf = conf::bridge(json!({"ipam": {"type": "foreign-ipam"}}));
    let (_, message) = plugins
        .call("ADD", &conf)
        .pod(&node.pod("x")?)
        .send()?
        .failure()?;
    assert!(message.contains("10.6.0.1"), "{message}");
    let log = node.run(|| std::fs::read_to_string("/run/theirs/log"))?;
    assert_eq!(log, "ADD\nDEL\n");
    let left = Snapshot::of(node.space())?;
    assert!(
        !left
            .lines()
            .any(|line| line.contains("veth") || line.contains("cbr0")),
        "{left}"
    );
    Ok(())
}
