//! The network beneath the nodes: switches with a router between them, in a namespace of its own.
use std::os::fd::AsRawFd;

use crate::inspect::sh;
use crate::{Node, Result, Space};

/// Switches, each with a subnet of either family, and a router that has the first address of each. Clones are the same
/// fabric; it is gone with the last of them.
#[derive(Clone, Debug)]
pub struct Fabric {
    space: Space,
}

impl Fabric {
    /// A fabric without a switch.
    pub fn new() -> Result<Fabric> {
        let space = Space::bare("fabric")?;
        sh(
            &space,
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.accept_dad=0",
        )?;
        Ok(Fabric { space })
    }

    /// The router's place: a host outside of every node.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// Adds switch number `n`: 192.0.`n`.0/24 and fd00:`n`::/64, the router at .1 and ::1.
    pub fn switch(&self, n: u8) -> Result {
        let lines = [
            format!("ip link add sw{n} type bridge"),
            format!("ip address add 192.0.{n}.1/24 dev sw{n}"),
            format!("ip address add fd00:{n}::1/64 dev sw{n} nodad"),
            format!("ip link set sw{n} up"),
        ];
        sh(&self.space, &lines.join("\n")).map(drop)
    }

    /// Joins a node's `eth0` to switch `n`, as host `host` of both its subnets, with default routes by the router.
    pub fn join(&self, node: &Node, n: u8, host: u8) -> Result {
        let end = node.name();
        let netns = format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            node.space().net().as_raw_fd()
        );
        sh(
            &self.space,
            &format!(
                "ip link add {end} type veth peer name eth0 netns {netns}\n\
                 ip link set {end} master sw{n} up"
            ),
        )?;
        self.address(node, n, host)
    }

    /// Gives `eth0` its addresses and routes on switch `n`, and takes it up.
    pub fn address(&self, node: &Node, n: u8, host: u8) -> Result {
        let lines = [
            format!("ip address replace 192.0.{n}.{host}/24 dev eth0"),
            format!("ip address replace fd00:{n}::{host}/64 dev eth0 nodad"),
            "ip link set eth0 up".to_owned(),
            format!("ip route replace default via 192.0.{n}.1"),
            format!("ip -6 route replace default via fd00:{n}::1"),
        ];
        sh(node.space(), &lines.join("\n")).map(drop)
    }

    /// Cuts a node off, as by pulling its cable out of the switch, or plugs it in again.
    pub fn plugged(&self, node: &Node, plugged: bool) -> Result {
        let state = if plugged { "up" } else { "down" };
        sh(&self.space, &format!("ip link set {} {state}", node.name())).map(drop)
    }
}
