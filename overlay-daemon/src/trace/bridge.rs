//! `cbr0`: to the gateway, or to a pod beside it.

use std::net::IpAddr;

use netlink::Link;
use netlink::sysctl::Tree;

use super::ends::Pod;
use super::pod::Exit;
use super::{Hop, Step, Tracer};

impl Tracer<'_> {
    /// The bridge that a link is a port of.
    pub(super) fn bridge_of(&self, port: &Link) -> Option<Link> {
        self.link(port.master?).cloned()
    }

    /// From one port to the bridge itself (false) or to another port (true).
    pub(super) fn cross(
        &mut self,
        bridge: &Link,
        exit: &Exit,
        dst: IpAddr,
        end: Option<&Pod>,
    ) -> Step<bool> {
        let port = exit.port.port.as_ref();
        if !bridge.up {
            self.interface("node", bridge, "")?;
        }
        if port.is_some_and(|port| !port.forwarding) {
            let hop = Hop::link("node", &exit.port, "").blocked(
                format!(
                    "{} does not forward yet as a port of {}",
                    exit.port.name, bridge.name
                ),
                format!("bridge link show dev {}", exit.port.name),
            );
            self.pass(hop)?;
        }
        let asked = self.route.addresses(Some(bridge.index));
        let addresses = self.ask("node", &bridge.name, asked)?;
        let is_gateway = addresses
            .iter()
            .any(|address| address.network.ip() == exit.next);
        if is_gateway {
            self.interface(
                "node",
                bridge,
                &format!("has the gateway's address {}", exit.next),
            )?;
            return Step::Continue(false);
        }
        if exit.next != dst {
            let hop = Hop::link("node", bridge, "").blocked(
                format!(
                    "{} does not have the gateway's address {}",
                    bridge.name, exit.next
                ),
                format!(
                    "ip address add {}/… dev {} (the prefix of the pod CIDR)",
                    exit.next, bridge.name
                ),
            );
            self.pass(hop)?;
        }
        self.interface("node", bridge, "switches to a port of its own")?;
        // What a bridge switches passes its ports, not the bridge's own interface.
        if let Some(hop) = self.hops.last_mut() {
            hop.link = None;
        }
        if Tree::new(&self.config.sysctl_dir)
            .get(passes_iptables(dst))
            .is_ok_and(|value| value == "1")
        {
            self.policy(dst)?;
        }
        let key = format!("net/ipv4/conf/{}/proxy_arp", bridge.name);
        if dst.is_ipv4()
            && Tree::new(&self.config.sysctl_dir)
                .get(&key)
                .is_ok_and(|value| value == "1")
        {
            let hop = Hop::new("node", format!("sysctl {key}"), "").blocked(
                "the host answers ARP for the pod next door and takes the packet itself",
                format!("sysctl -w net.ipv4.conf.{}.proxy_arp=0", bridge.name),
            );
            self.pass(hop)?;
        }
        if let Some(other) = self.port_of(end)
            && let (Some(from), Some(to)) = (port, other.port.as_ref())
            && from.isolated
            && to.isolated
        {
            let hop = Hop::link("node", &other, "").blocked(
                format!(
                    "{} and {} are isolated ports, which see only the gateway",
                    exit.port.name, other.name
                ),
                format!("bridge link set dev {} isolated off", other.name),
            );
            self.pass(hop)?;
        }
        Step::Continue(true)
    }

    /// Between two pods of one bridge, the answer is switched: kube-proxy's NAT sees it only where bridges show iptables
    /// what they switch.
    pub(super) fn answers_pass_iptables(&mut self, bridge: &Link, dst: IpAddr) -> Step {
        let key = passes_iptables(dst);
        let value = Tree::new(&self.config.sysctl_dir).get(key);
        if value.is_ok_and(|value| value != "0") {
            return Step::Continue(());
        }
        let hop = Hop::new("node", format!("sysctl {key}"), "").blocked(
            format!(
                "the answer of a pod beside goes across {} past kube-proxy's rules, and is not known to the asker",
                bridge.name
            ),
            format!("modprobe br_netfilter; sysctl -w {}=1", key.replace('/', ".")),
        );
        self.pass(hop)
    }

    pub(super) fn port_of(&self, pod: Option<&Pod>) -> Option<Link> {
        let netns = pod?.netns.as_ref()?;
        let mut inside = netlink::Handle::in_netns(netns).ok()?;
        let wanted = &pod?.addresses;
        let holder = inside.addresses(None).ok()?;
        let index = holder
            .iter()
            .find(|address| wanted.contains(&address.network.ip()))?
            .index;
        let eth = inside.link_by_index(index).ok()??;
        self.link(eth.peer_index?).cloned()
    }
}

/// The sysctl that shows iptables what a bridge switches.
pub(super) fn passes_iptables(dst: IpAddr) -> &'static str {
    match dst {
        IpAddr::V4(_) => "net/bridge/bridge-nf-call-iptables",
        IpAddr::V6(_) => "net/bridge/bridge-nf-call-ip6tables",
    }
}
