//! The ways that packets are measured on: two nodes at either end of one cable, a pod on each.
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::ensure;
use lab::inspect::sh;
use lab::kubernetes::{Answer, Liar};
use lab::overlay::{Cluster, Member};
use lab::{Fabric, Node, Pod, Result, wait};
use netlink::Mac;
use serde_json::Value;

use super::Way;
use crate::crowd::fill;
use crate::flanneld::{self, Flanneld};

pub const HOSTS: &str = "host to host";
pub const SLOW: &str = "Heddle";
pub const FAST: &str = "Heddle, fast path";
pub const DIRECT: &str = "Heddle, direct";
pub const NEAR: &str = "Heddle, same node";
pub const BY_HAND: &str = "VXLAN by hand, no rules";
pub const FLANNEL: &str = "flannel's data path";
pub const NEAR_FLANNEL: &str = "flannel's, same node";

/// Of the nodes made by hand, by the name that flannel gives it.
const BRIDGE: &str = "cni0";
/// A second pod of the first node made by hand.
const NEAR_POD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 1, 3));
/// Long enough for a thousand pods, each of which the kernel makes wait for RCU.
const ATTACHED: Duration = Duration::from_secs(120);
/// The far pod of the nodes made by hand.
const FAR_POD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 2, 2));
const FAR_NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 1, 12));

/// All of them, and what keeps them there.
pub struct Ways {
    pub all: Vec<Way>,
    clusters: Vec<Cluster>,
    by_hand: [[(Node, Pod); 2]; 2],
    _near: Pod,
}

impl Ways {
    pub fn new() -> Result<Ways> {
        let (plain, flannel) = (pair()?, pair()?);
        tunnel(&plain)?;
        match flanneld::name() {
            Some(_) => flannels_tunnel(&flannel)?,
            None => {
                tunnel(&flannel)?;
                for (node, own) in flannel.iter().map(|(node, _)| node).zip([1, 2]) {
                    flannels_rules(node, own)?;
                }
            }
        }
        for (node, _) in &flannel {
            sh(
                node.space(),
                "sysctl -qw net.bridge.bridge-nf-call-iptables=1",
            )?;
        }
        let near = flannel[0].0.pod("near")?;
        plug(&flannel[0].0, &near, 1, 3)?;
        let clusters = vec![
            heddle("direct_routing = \"never\"")?,
            heddle("direct_routing = \"never\"\nfast_path = true")?,
            heddle("direct_routing = \"auto\"")?,
        ];
        let mut all = vec![Way {
            name: HOSTS,
            from: plain[0].0.space().clone(),
            to: plain[1].0.space().clone(),
            address: FAR_NODE,
        }];
        for (name, pair) in [(BY_HAND, &plain), (FLANNEL, &flannel)] {
            all.push(Way {
                name,
                from: pair[0].1.space().clone(),
                to: pair[1].1.space().clone(),
                address: FAR_POD,
            });
        }
        all.push(Way {
            name: NEAR_FLANNEL,
            from: flannel[0].1.space().clone(),
            to: near.space().clone(),
            address: NEAR_POD,
        });
        for (name, cluster) in [SLOW, FAST, DIRECT].into_iter().zip(&clusters) {
            let pods = cluster.pods()?;
            if name == FAST {
                for member in &cluster.members {
                    member.wait_for("the fast path", |status| status["fast_path"]["links"] == 1)?;
                }
            }
            all.push(Way {
                name,
                from: pods[0].pod.space().clone(),
                to: pods[1].pod.space().clone(),
                address: pods[1].addresses[0],
            });
        }
        let [from, to] = ["from", "to"].map(|name| clusters[0].members[0].add_pod(name));
        let to = to?;
        all.push(Way {
            name: NEAR,
            from: from?.pod.space().clone(),
            to: to.pod.space().clone(),
            address: to.addresses[0],
        });
        Ok(Ways {
            all,
            clusters,
            by_hand: [plain, flannel],
            _near: near,
        })
    }

    /// Puts so many more pods on the bridge of the first node of [`FLANNEL`], [`SLOW`] and [`FAST`].
    pub fn fill(&self, pods: u16) -> Result {
        let [_, [(node, _), _]] = &self.by_hand;
        fill(node, BRIDGE, pods)?;
        for (name, cluster) in [SLOW, FAST].into_iter().zip(&self.clusters) {
            let member = &cluster.members[0];
            fill(&member.node, "cbr0", pods)?;
            if name == FAST {
                wait::until(ATTACHED, "fast path of all pods", || {
                    let links = &member.status()?["fast_path"]["links"];
                    ensure!(*links == 1 + u64::from(pods), "{links}");
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    /// Ends the daemons.
    pub fn stop(&mut self) -> Result {
        let mut members = self
            .clusters
            .iter_mut()
            .flat_map(|cluster| &mut cluster.members);
        members.try_for_each(|member| member.stop(false))
    }
}

/// Takes two nodes from the fabric's switch and joins them by a cable: a switch would cost every way the same, and so make them
/// look more alike than they are.
fn cable(fabric: &Fabric, nodes: [&Node; 2]) -> Result {
    for node in nodes {
        sh(node.space(), "ip link delete eth0")?;
    }
    let netns = format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        nodes[1].space().net().as_raw_fd()
    );
    sh(
        nodes[0].space(),
        &format!("ip link add eth0 type veth peer name eth0 netns {netns}"),
    )?;
    for (node, host) in nodes.into_iter().zip([11, 12]) {
        fabric.address(node, 1, host)?;
    }
    Ok(())
}

/// Two nodes with a daemon each.
fn heddle(config: &str) -> Result<Cluster> {
    let fabric = Fabric::new()?;
    fabric.switch(1)?;
    let config = format!("membership = \"static\"\n{config}");
    let member = |name, host| Member::new(&fabric, name, 1, host, &config);
    let members = vec![member("n1", 11)?, member("n2", 12)?];
    cable(&fabric, [&members[0].node, &members[1].node])?;
    let mut cluster = Cluster { fabric, members };
    cluster.write_nodes(&[("n1", &["192.0.1.11"], 1), ("n2", &["192.0.1.12"], 2)])?;
    cluster.start()?;
    cluster.ready()?;
    Ok(cluster)
}

/// Two nodes with a bridge and a pod each.
fn pair() -> Result<[(Node, Pod); 2]> {
    let fabric = Fabric::new()?;
    fabric.switch(1)?;
    let place = |name: &str, host: u8| -> Result<(Node, Pod)> {
        let node = Node::new(name)?;
        fabric.join(&node, 1, host)?;
        let pod = node.pod("pod")?;
        Ok((node, pod))
    };
    let pair = [place("h1", 11)?, place("h2", 12)?];
    cable(&fabric, [&pair[0].0, &pair[1].0])?;
    for ((node, pod), own) in pair.iter().zip([1, 2]) {
        let script = format!(
            "sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=0\n\
             ip link add {BRIDGE} address 02:00:00:00:98:0{own} type bridge\n\
             ip address add 10.99.{own}.1/24 dev {BRIDGE}\n\
             ip link set {BRIDGE} up"
        );
        sh(node.space(), &script)?;
        plug(node, pod, own, 2)?;
    }
    Ok(pair)
}

/// Joins two nodes by VXLAN devices with what flannel's have, made by `ip`.
fn tunnel(pair: &[(Node, Pod); 2]) -> Result {
    for ((node, _), (own, other)) in pair.iter().zip([(1, 2), (2, 1)]) {
        let script = format!(
            "ip link add flannel.1 up mtu 1450 address 02:00:00:00:99:0{own} type vxlan id 1 local 192.0.1.1{own} dev eth0 dstport 8472 nolearning\n\
             ip address add 10.99.{own}.0/32 dev flannel.1\n\
             bridge fdb append 02:00:00:00:99:0{other} dev flannel.1 dst 192.0.1.1{other} self permanent\n\
             ip neighbour add 10.99.{other}.0 lladdr 02:00:00:00:99:0{other} dev flannel.1 nud permanent\n\
             ip route add 10.99.{other}.0/24 via 10.99.{other}.0 dev flannel.1 onlink"
        );
        sh(node.space(), &script)?;
    }
    Ok(())
}

/// Lets flanneld join two nodes, and ends it: each is told by an API server of its own.
fn flannels_tunnel(pair: &[(Node, Pod); 2]) -> Result {
    let server = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 8001);
    let nodes: BTreeMap<String, Value> = [("h1", 1), ("h2", 2)]
        .map(|(name, own)| {
            let endpoint = Ipv4Addr::new(192, 0, 1, 10 + own);
            let mac = Mac::from([2, 0, 0, 0, 0x99, own]);
            flanneld::node(name, endpoint, &format!("10.99.{own}.0/24"), mac)
        })
        .into();
    for (node, _) in pair {
        Liar::start(node.space(), server, Answer::Nodes(nodes.clone()))?;
        Flanneld::on(node, server, "10.99.0.0/16")?.start(1)?;
    }
    Ok(())
}

/// Joins a pod to its node's bridge, as host `host` of node `own`'s subnet.
fn plug(node: &Node, pod: &Pod, own: u8, host: u8) -> Result {
    let netns = pod.netns().display();
    let script = format!(
        "ip link add p{host} mtu 1450 type veth peer name eth0 mtu 1450 netns {netns}\n\
         ip link set p{host} master {BRIDGE} up"
    );
    sh(node.space(), &script)?;
    let script = format!(
        "ip link set lo up\nip address add 10.99.{own}.{host}/24 dev eth0\nip link set eth0 up\nip route add default via 10.99.{own}.1"
    );
    sh(pod.space(), &script).map(drop)
}

/// What flanneld 0.28 puts into iptables with `--ip-masq`.
fn flannels_rules(node: &Node, own: u8) -> Result {
    let subnet = format!("10.99.{own}.0/24");
    let [masq, forward] =
        ["masq", "forward"].map(|of| format!("-m comment --comment \"flanneld {of}\""));
    let script = format!(
        "iptables-restore <<'EOF'\n\
         *nat\n\
         :FLANNEL-POSTRTG - [0:0]\n\
         -A POSTROUTING {masq} -j FLANNEL-POSTRTG\n\
         -A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 {masq} -j RETURN\n\
         -A FLANNEL-POSTRTG -s {subnet} -d 10.99.0.0/16 {masq} -j RETURN\n\
         -A FLANNEL-POSTRTG -s 10.99.0.0/16 -d {subnet} {masq} -j RETURN\n\
         -A FLANNEL-POSTRTG ! -s 10.99.0.0/16 -d {subnet} {masq} -j RETURN\n\
         -A FLANNEL-POSTRTG -s 10.99.0.0/16 ! -d 224.0.0.0/4 {masq} -j MASQUERADE --random-fully\n\
         -A FLANNEL-POSTRTG ! -s 10.99.0.0/16 -d 10.99.0.0/16 {masq} -j MASQUERADE --random-fully\n\
         COMMIT\n\
         *filter\n\
         :FLANNEL-FWD - [0:0]\n\
         -A FORWARD {forward} -j FLANNEL-FWD\n\
         -A FLANNEL-FWD -s 10.99.0.0/16 {forward} -j ACCEPT\n\
         -A FLANNEL-FWD -d 10.99.0.0/16 {forward} -j ACCEPT\n\
         COMMIT\n\
         EOF"
    );
    sh(node.space(), &script).map(drop)
}
