//! `heddle trace`: the life of a packet, hop by hop, read from the kernel as it is now.

mod bridge;
mod far;
mod hop;
mod node;
mod pod;
mod refused;
mod underlay;

use std::net::IpAddr;
use std::ops::ControlFlow;

use netlink::{Handle, Link};
use serde::Serialize;

pub use self::hop::{Counters, Hop, Problem};
use self::pod::Pod;
use crate::config::Config;
use crate::status::Status;

/// A packet's way, as far as it gets.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Trace {
    /// Where it comes from.
    pub src: IpAddr,
    /// Where it is to go.
    pub dst: IpAddr,
    /// Whether it gets there, as far as that can be seen from this node.
    pub arrives: bool,
    /// The smallest MTU on the way, in bytes.
    pub mtu: Option<u32>,
    /// Each object that it passes.
    pub hops: Vec<Hop>,
}

/// Whether the packet goes on, with what the next hop needs.
type Step<T = ()> = ControlFlow<(), T>;

/// What the hops are read from, and the hops so far.
struct Tracer<'a> {
    config: &'a Config,
    status: Option<&'a Status>,
    route: Handle,
    links: Vec<Link>,
    hops: Vec<Hop>,
}

/// Follows a packet from a pod of this node, or from the node itself, to an address or a pod. Each end is an address, the
/// path of a netns, or (the beginning of) a container id; "node" is the node itself. `status` is what the daemon says, where
/// it answers.
///
/// # Errors
/// When an end cannot be found, or the kernel cannot be asked.
pub fn trace(
    config: &Config,
    status: Option<&Status>,
    from: &str,
    to: &str,
) -> Result<Trace, String> {
    let said = |error: netlink::Error| error.to_string();
    let mut route = Handle::new().map_err(said)?;
    let links = route.links().map_err(said)?;
    let mut tracer = Tracer {
        config,
        status,
        route,
        links,
        hops: Vec::new(),
    };
    let end = pod::find(to)?;
    let dst_family = end.addresses.first().copied();
    let begin = if from == "node" {
        None
    } else {
        Some(pod::find(from)?)
    };
    let (src, dst) = match &begin {
        Some(begin) => pair(begin, &end)?,
        None => {
            let dst = dst_family.ok_or_else(|| format!("{to} has no address"))?;
            let hop = tracer.route.route_to(dst).map_err(said)?;
            (hop.and_then(|hop| hop.src).unwrap_or(dst), dst)
        }
    };
    let end = end.netns.is_some().then_some(end);
    let followed = tracer.follow(begin, src, dst, end);
    let is_blocked = tracer.hops.iter().any(|hop| hop.problem.is_some());
    Ok(Trace {
        src,
        dst,
        arrives: followed.is_continue() && !is_blocked,
        mtu: tracer.hops.iter().filter_map(|hop| hop.mtu).min(),
        hops: tracer.hops,
    })
}

/// An address of each, of one family.
fn pair(begin: &Pod, end: &Pod) -> Result<(IpAddr, IpAddr), String> {
    if begin.netns.is_none() {
        return Err(format!(
            "{} is no pod of this node: run `heddle trace` on the node that has it, or trace from \"node\"",
            begin.name
        ));
    }
    let pairs = end.addresses.iter().filter_map(|dst| {
        let src = begin
            .addresses
            .iter()
            .find(|src| src.is_ipv4() == dst.is_ipv4())?;
        Some((*src, *dst))
    });
    pairs.into_iter().next().ok_or_else(|| {
        format!(
            "{} and {} have no address of the same family",
            begin.name, end.name
        )
    })
}

impl Tracer<'_> {
    fn follow(&mut self, begin: Option<Pod>, src: IpAddr, dst: IpAddr, end: Option<Pod>) -> Step {
        if let Some(mut begin) = begin {
            let Some(exit) = self.leave(&mut begin, dst)? else {
                return Step::Continue(());
            };
            if let Some(bridge) = self.bridge_of(&exit.port) {
                let arrived = self.cross(&bridge, &exit, dst, end.as_ref())?;
                if arrived {
                    return self.arrive(end, dst);
                }
            }
        }
        match self.through(src, dst)? {
            node::Leads::Here => Step::Continue(()),
            node::Leads::ToPod => self.arrive(end, dst),
            node::Leads::Away(way) => self.travel(&way, src),
        }
    }

    fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// Puts the hop down; a blocked one is the last.
    fn pass(&mut self, hop: Hop) -> Step {
        let is_blocked = hop.problem.is_some();
        self.hops.push(hop);
        match is_blocked {
            true => Step::Break(()),
            false => Step::Continue(()),
        }
    }

    /// What the kernel answers; that it does not is where the trace ends.
    fn ask<T>(&mut self, place: &str, object: &str, answer: netlink::Result<T>) -> Step<T> {
        match answer {
            Ok(answer) => Step::Continue(answer),
            Err(error) => {
                let hop = Hop::new(place, object, "cannot be read");
                self.hops
                    .push(hop.blocked(error.to_string(), "run as root"));
                Step::Break(())
            }
        }
    }
}
