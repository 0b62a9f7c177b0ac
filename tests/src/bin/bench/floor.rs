//! The kernel's floor: the netlink messages of an ADD and a DEL from a bare loop, over sockets that stay open. No
//! process, no JSON, no lease, no lock: what no plugin can be quicker than.
use std::time::{Duration, Instant};

use anyhow::Context;
use lab::{Node, Pod, Result};
use netlink::link::{self, BridgePort, Veth};
use netlink::netns::Netns;
use netlink::route::{self, Route};
use netlink::{Handle, Mac, address};

use crate::duel::Clock;

/// A node with a bridge, a pod on it, and a socket in either.
pub struct Floor {
    node: Node,
    pod: Pod,
}

/// Names as long as those of the plugin.
const HOST_END: &str = "veth0123456789a";
const ALIAS: &str = "heddle/bench/pod/eth0";

impl Floor {
    pub fn new() -> Result<Floor> {
        let node = Node::new("floor")?;
        let ip = |line: &str| node.command("ip").args(line.split(' ')).ok().map(drop);
        ip("link add cbr0 type bridge")?;
        ip("address add 10.88.0.1/16 dev cbr0")?;
        ip("link set cbr0 up")?;
        let pod = node.pod("pod")?;
        Ok(Floor { node, pod })
    }

    /// Where the bridge is.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Adds the pod's link, and removes it.
    pub fn round(&self, clock: &mut Clock) -> Result {
        self.round_by(|verb, act| {
            let start = Instant::now();
            act()?;
            clock.push(verb, start.elapsed());
            Ok(())
        })
    }

    /// The same, where each of both is done by who measures it.
    pub fn round_by(
        &self,
        mut measured: impl FnMut(&'static str, &mut dyn FnMut() -> Result) -> Result + Send,
    ) -> Result {
        self.node.run(|| {
            let netns = Netns::open(self.pod.netns())?;
            let (mut host, mut pod) = (Handle::new()?, Handle::in_netns(&netns)?);
            measured("ADD", &mut || add(&mut host, &mut pod, &netns))?;
            measured("DEL", &mut || delete(&mut host))
        })
    }
}

/// What `bridge` sends for a pod with one IPv4 address and a default route, in its order.
fn add(host: &mut Handle, pod: &mut Handle, netns: &Netns) -> Result {
    let bridge = host.link("cbr0")?.context("the floor's bridge")?.index;
    let veth = Veth {
        name: HOST_END,
        peer_name: "eth0",
        peer_netns: netns,
        mtu: Some(1500),
        mac: Mac::from([2, 0, 0, 0, 0, 1]),
        peer_mac: Mac::from([2, 0, 0, 0, 0, 2]),
        master: Some(bridge),
        up: true,
    };
    let port = BridgePort {
        alias: Some(ALIAS),
        hairpin: None,
        isolated: None,
    };
    host.execute(vec![veth.request(), port.request(HOST_END)])?;
    host.addresses(Some(bridge))?;
    let eth = pod.link("eth0")?.context("the pod's end")?.index;
    let nodad = address::Flags {
        nodad: true,
        ..Default::default()
    };
    let default = Route {
        gw: Some("10.88.0.1".parse()?),
        dev: Some(eth),
        ..Route::to("0.0.0.0/0".parse()?)
    };
    pod.execute(vec![
        link::arp_notify(eth),
        address::add(eth, "10.88.0.2/16".parse()?, nodad),
        link::set_up(eth),
        route::Route::add_path(&default),
    ])?;
    host.wait_forwarding(HOST_END, Duration::from_secs(2))?;
    Ok(())
}

fn delete(host: &mut Handle) -> Result {
    let veth = host.link(HOST_END)?.context("the floor's veth")?;
    host.execute(vec![link::delete(veth.index)])?;
    Ok(())
}
