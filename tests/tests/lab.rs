//! The lab itself: nodes are apart from the host and from each other, and leave nothing.
use std::path::Path;
use std::process::ExitCode;

use lab::{Case, Need, Node, Plugins, Result, Snapshot};
use serde_json::json;

fn main() -> ExitCode {
    let tools = ["ip", "nft", "tc"].map(Need::Program);
    let reference = ["bridge", "host-local"].map(Need::Reference);
    lab::main([
        Case::new("files_of_a_node_are_its_own", files_of_a_node_are_its_own),
        Case::new("a_snapshot_sees_every_change", a_snapshot_sees_every_change).needs(tools),
        Case::new(
            "a_reference_plugin_can_be_driven",
            a_reference_plugin_can_be_driven,
        )
        .needs(reference)
        .needs(tools),
    ])
}

fn files_of_a_node_are_its_own() -> Result {
    let (one, two) = (Node::new("one")?, Node::new("two")?);
    for dir in ["/run", "/etc/cni/net.d", "/opt/cni/bin", "/var/lib/cni"] {
        let file = Path::new(dir).join("lab-was-here");
        one.run(|| std::fs::write(&file, "x"))?;
        assert!(
            one.run(|| file.exists()),
            "{} is on the node that wrote it",
            file.display()
        );
        assert!(
            !two.run(|| file.exists()),
            "{} is on another node",
            file.display()
        );
        assert!(!file.exists(), "{} is on the host", file.display());
    }
    Ok(())
}

fn a_snapshot_sees_every_change() -> Result {
    let node = Node::new("watched")?;
    let take = || Snapshot::of(node.space());
    node.command("ip")
        .args(["link", "add", "br0", "up", "type", "bridge"])
        .ok()?;
    let changes = [
        "ip link set br0 mtu 1400",
        "ip address add 192.0.2.1/24 dev br0",
        "ip route add 198.51.100.0/24 via 192.0.2.2",
        "ip rule add from 192.0.2.9 table 100",
        "nft add table inet x",
        "nft 'add set inet x s { type ipv4_addr; }'",
        "nft 'add element inet x s { 192.0.2.7 }'",
        "sysctl -q net.ipv4.ip_forward=1",
        "touch /var/lib/cni/x",
        "chmod 600 /var/lib/cni/x",
    ];
    for change in changes {
        let before = take()?;
        take()?.same_as(&before)?;
        node.command("sh").args(["-c", change]).ok()?;
        assert!(take()?.same_as(&before).is_err(), "not seen: {change}");
    }
    Ok(())
}

fn a_reference_plugin_can_be_driven() -> Result {
    let node = Node::new("driven")?;
    let (plugins, pod) = (Plugins::reference(&node), node.pod("p1")?);
    let conf = json!({
        "cniVersion": "1.0.0", "name": "net", "type": "bridge", "bridge": "cbr0", "isGateway": true,
        "ipam": {"type": "host-local", "subnet": "10.1.0.0/24"},
    });
    let result = plugins.add(&conf, &pod)?.result()?;
    assert_eq!(result["ips"][0]["address"], "10.1.0.2/24");
    let before = Snapshot::of(node.space())?;
    let (code, message) = plugins.add(&conf, &pod)?.failure()?;
    assert!(
        code == 999 && message.contains("already exists"),
        "{code}: {message}"
    );
    plugins.check(&conf, &pod, &result)?.done()?;
    Snapshot::of(node.space())?.same_as(&before)?;
    plugins.del(&conf, &pod)?.done()
}
