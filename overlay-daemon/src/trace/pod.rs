//! The pods: out of the first by its route and interface, into the last by its.

use std::net::IpAddr;

use netlink::{Handle, Link, link};

use super::ends::Pod;
use super::hop::Place;
use super::refused::refused;
use super::{Hop, Step, Tracer};
use crate::gc;

/// Where a packet leaves a pod.
#[derive(Debug)]
pub(super) struct Exit {
    /// The host's end of the veth pair.
    pub port: Link,
    /// Who takes the packet next: the gateway, or the destination itself.
    pub next: IpAddr,
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
        self.stands(("pod", Place::Source), &eth, counted, "leaves the pod")?;
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
        self.stands(("pod", Place::Destination), &eth, counted, "enters the pod")?;
        self.pass(Hop::new("pod", format!("address {dst}"), "arrives").owned(true))
    }

    /// An interface of the host's that has to be up.
    pub(super) fn interface(&mut self, place: &str, link: &Link, what: &str) -> Step {
        let counted = self.route.counters(link.index).ok().flatten();
        self.stands((place, Place::Here), link, counted, what)
    }

    fn stands(
        &mut self,
        (name, place): (&str, Place),
        link: &Link,
        counted: Option<link::Counters>,
        what: &str,
    ) -> Step {
        let hop = Hop {
            counters: counted.map(Into::into),
            link: Some((place, link.index)),
            ..Hop::link(name, link, what)
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
