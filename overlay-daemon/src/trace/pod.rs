//! The ends: a pod's network namespace, its route and its interface.

use std::net::IpAddr;
use std::path::Path;

use netlink::netns::Netns;
use netlink::{Handle, Link, link};

use super::refused::refused;
use super::{Hop, Step, Tracer};
use crate::{gc, pods};

/// One end of a packet's way.
#[derive(Debug)]
pub(super) struct Pod {
    /// What it was called.
    pub name: String,
    /// Its namespace, if it is a pod of this node.
    pub netns: Option<Netns>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Where a packet leaves a pod.
#[derive(Debug)]
pub(super) struct Exit {
    /// The host's end of the veth pair.
    pub port: Link,
    /// Who takes the packet next: the gateway, or the destination itself.
    pub next: IpAddr,
}

/// Finds an end by its address, the path of its netns, or its container id.
pub(super) fn find(text: &str) -> Result<Pod, String> {
    let name = text.to_owned();
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Pod {
            netns: with_address(address),
            addresses: vec![address],
            name,
        });
    }
    if Path::new(text).exists() {
        let netns = Netns::open(Path::new(text)).map_err(|error| error.to_string())?;
        let addresses = addresses(&netns).map_err(|error| error.to_string())?;
        return Ok(Pod {
            netns: Some(netns),
            addresses,
            name,
        });
    }
    let leases = gc::leases().unwrap_or_default();
    let addresses: Vec<IpAddr> = leases
        .iter()
        .filter(|lease| {
            let owner = lease.owner.as_ref();
            text.len() >= 6 && owner.is_some_and(|owner| owner.0.container_id.starts_with(text))
        })
        .map(|lease| lease.address)
        .collect();
    match addresses.first() {
        Some(first) => Ok(Pod {
            netns: with_address(*first),
            addresses,
            name,
        }),
        None => Err(format!(
            "{text:?} is no address, no netns and no container id of this node: name a pod by its address (`kubectl get pods -o wide`)"
        )),
    }
}

/// The namespace that has an address.
fn with_address(address: IpAddr) -> Option<Netns> {
    let mut all = pods::namespaces().map(|(_, netns)| netns);
    all.find(|netns| addresses(netns).is_ok_and(|own| own.contains(&address)))
}

/// Those by which others know a pod, IPv4 first.
fn addresses(netns: &Netns) -> netlink::Result<Vec<IpAddr>> {
    let all = Handle::in_netns(netns)?.addresses(None)?;
    let mut usable: Vec<IpAddr> = all
        .into_iter()
        .map(|address| address.network.ip())
        .filter(|ip| match ip {
            IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
            IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
        })
        .collect();
    usable.sort();
    Ok(usable)
}

const AGAIN: &str = "delete the pod, so that it is made anew";

impl Tracer<'_> {
    /// From the pod's socket to the host's end of its veth pair; none if the pod talks to itself.
    pub(super) fn leave(&mut self, pod: &mut Pod, dst: IpAddr) -> Step<Option<Exit>> {
        let Some(netns) = &pod.netns else {
            return Step::Continue(None);
        };
        let opened = Handle::in_netns(netns);
        let mut inside = self.ask("pod", &pod.name, opened)?;
        let looked_up = inside.route_to(dst);
        let route = Hop::new("pod", format!("route to {dst}"), "");
        let found = match looked_up {
            Ok(Some(found)) => found,
            Ok(None) => {
                let hop = refused(&mut inside, "pod", dst).unwrap_or_else(|| {
                    route.blocked(format!("the pod has no route to {dst}"), AGAIN)
                });
                self.pass(hop)?;
                return Step::Continue(None);
            }
            Err(error) => {
                let hop = route.blocked(format!("the pod cannot send to {dst}: {error}"), AGAIN);
                self.pass(hop)?;
                return Step::Continue(None);
            }
        };
        if found.local {
            self.pass(Hop::new(
                "pod",
                format!("address {dst}"),
                "is the pod's own",
            ))?;
            return Step::Continue(None);
        }
        let asked = inside.link_by_index(found.dev);
        let Some(eth) = self.ask("pod", "its interface", asked)? else {
            return Step::Break(());
        };
        let next = found.gw.unwrap_or(dst);
        let by = found.gw.map_or_else(String::new, |gw| format!("via {gw} "));
        self.pass(Hop {
            what: format!("{by}dev {}", eth.name),
            mtu: found.mtu,
            ..Hop::new("pod", format!("route to {dst}"), "").owned(true)
        })?;
        let port = eth.peer_index.and_then(|index| self.link(index)).cloned();
        let eth = named_as(eth, port.as_ref());
        let counted = inside.counters(eth.index).ok().flatten();
        self.stands("pod", &eth, counted, "leaves the pod")?;
        let Some(port) = port else {
            let hop =
                Hop::link("pod", &eth, "").blocked("its other end is not on this host", AGAIN);
            self.pass(hop)?;
            return Step::Continue(None);
        };
        self.interface("node", &port, "the host's end of the pair")?;
        Step::Continue(Some(Exit { port, next }))
    }

    /// From the host's end of a veth pair into the pod.
    pub(super) fn arrive(&mut self, pod: Option<Pod>, dst: IpAddr) -> Step {
        let Some(netns) = pod.as_ref().and_then(|pod| pod.netns.as_ref()) else {
            let leases = gc::leases().unwrap_or_default();
            let owner = leases.iter().find(|lease| lease.address == dst);
            let leased = owner.map_or(
                "it is not leased",
                |_| "its lease is left from a pod that has gone",
            );
            return self.pass(Hop::new("node", format!("pod {dst}"), "").blocked(
                format!("no pod of this node has {dst}: {leased}"),
                "heddle doctor",
            ));
        };
        let read = Handle::in_netns(netns).and_then(|mut inside| {
            let addresses = inside.addresses(None)?;
            let holder = addresses.iter().find(|address| address.network.ip() == dst);
            let Some(index) = holder.map(|address| address.index) else {
                return Ok(None);
            };
            let counted = inside.counters(index)?;
            Ok(inside.link_by_index(index)?.map(|eth| (eth, counted)))
        });
        let Some((eth, counted)) = self.ask("pod", "its interface", read)? else {
            let hop = Hop::new("pod", format!("address {dst}"), "");
            return self.pass(hop.blocked("the pod does not have it any more", AGAIN));
        };
        let port = eth.peer_index.and_then(|index| self.link(index)).cloned();
        let eth = named_as(eth, port.as_ref());
        if let Some(port) = port {
            self.interface("node", &port, "the host's end of the pair")?;
        }
        self.stands("pod", &eth, counted, "enters the pod")?;
        self.pass(Hop::new("pod", format!("address {dst}"), "arrives").owned(true))
    }

    /// An interface of the host's that has to be up.
    pub(super) fn interface(&mut self, place: &str, link: &Link, what: &str) -> Step {
        let counted = self.route.counters(link.index).ok().flatten();
        self.stands(place, link, counted, what)
    }

    fn stands(
        &mut self,
        place: &str,
        link: &Link,
        counted: Option<link::Counters>,
        what: &str,
    ) -> Step {
        let hop = Hop {
            counters: counted.map(Into::into),
            ..Hop::link(place, link, what)
        };
        // A bridge has the carrier of its ports: that they are down is said of them.
        let carrier = link.carrier || link.bridge.is_some();
        self.pass(match (link.up, carrier) {
            (false, _) => hop.blocked(
                format!("{} is down", link.name),
                format!("ip link set dev {} up", link.name),
            ),
            (true, false) => hop.blocked(
                format!(
                    "{} has no carrier: its other end is down, or the cable out",
                    link.name
                ),
                format!("ip link show dev {}", link.name),
            ),
            (true, true) => hop,
        })
    }
}

/// A pod's interface bears the mark of its other end: an alias would show inside of the pod.
fn named_as(eth: Link, port: Option<&Link>) -> Link {
    Link {
        alias: port.and_then(|port| port.alias.clone()),
        ..eth
    }
}
