//! `heddle trace`: the life of a packet, hop by hop, read from the kernel as it is now.

mod bridge;
mod ends;
mod far;
mod hop;
mod live;
mod node;
mod pod;
mod refused;
mod service;
mod underlay;

use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;

use netlink::{Handle, Link};
use serde::Serialize;

use self::ends::Pod;
pub use self::hop::{Counters, Hop, Problem};
pub use self::live::{Live, live};
use self::service::Proxied;
#[cfg(any(test, fuzzing))]
pub(crate) use self::service::read_as_all;
pub use self::service::{Backend, Service};
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
    /// Each object that it passes; behind a Service, those on the way to the first backend that it does not get to, or to
    /// the first of all.
    pub hops: Vec<Hop>,
    /// The Service that it goes to, where it goes to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// What became of marked packets, where some were sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<Live>,
}

/// What is known of the packet besides its ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// The port that it goes to; a Service's first one unless given.
    pub port: Option<u16>,
    /// Its protocol.
    pub protocol: Option<Protocol>,
}

/// What Services can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// As kube-proxy's rules have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
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
    service: Option<Service>,
}

/// How many of a Service's backends are followed.
const FOLLOWED: usize = 4;

/// Follows any packet from `from` to `to`: see [`follow`].
///
/// # Errors
/// When an end cannot be found, or the kernel cannot be asked.
pub fn trace(
    config: &Config,
    status: Option<&Status>,
    from: &str,
    to: &str,
) -> Result<Trace, String> {
    follow(config, status, [from, to], Packet::default())
}

/// Follows a packet from a pod of this node, or from the node itself, to an address or a pod. Each end is an address, the
/// path of a netns, (the beginning of) a container id, or `namespace/pod`; "node" is the node itself. `status` is what the daemon says, where
/// it answers.
///
/// # Errors
/// When an end cannot be found, or the kernel cannot be asked.
pub fn follow(
    config: &Config,
    status: Option<&Status>,
    [from, to]: [&str; 2],
    packet: Packet,
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
        service: None,
    };
    let end = ends::find(to)?;
    let dst_family = end.addresses.first().copied();
    let begin = if from == "node" {
        None
    } else {
        Some(ends::find(from)?)
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
    let followed = tracer.follow(begin, [src, dst], packet, end);
    let is_blocked = tracer.hops.iter().any(|hop| hop.problem.is_some());
    Ok(Trace {
        src,
        dst,
        arrives: followed.is_continue() && !is_blocked && all_backends(tracer.service.as_ref()),
        mtu: tracer.hops.iter().filter_map(|hop| hop.mtu).min(),
        hops: tracer.hops,
        service: tracer.service,
        live: None,
    })
}

fn all_backends(service: Option<&Service>) -> bool {
    let mut backends = service.into_iter().flat_map(|service| &service.backends);
    backends.all(|backend| backend.arrives != Some(false))
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
    fn follow(
        &mut self,
        begin: Option<Pod>,
        [src, dst]: [IpAddr; 2],
        packet: Packet,
        end: Option<Pod>,
    ) -> Step {
        let mut bridge = None;
        if let Some(mut begin) = begin {
            let Some(exit) = self.leave(&mut begin, dst)? else {
                return Step::Continue(());
            };
            bridge = self.bridge_of(&exit.port);
            if let Some(bridge) = &bridge {
                let arrived = self.cross(bridge, &exit, dst, end.as_ref())?;
                if arrived {
                    return self.arrive(end, dst);
                }
            }
        }
        match self.service(dst, packet, bridge.is_some())? {
            Some(proxied) => self.behind(proxied, bridge.as_ref(), src),
            None => self.onward([src, dst], end),
        }
    }

    fn onward(&mut self, [src, dst]: [IpAddr; 2], end: Option<Pod>) -> Step {
        match self.through(src, dst)? {
            node::Leads::Here => Step::Continue(()),
            node::Leads::ToPod => self.arrive(end, dst),
            node::Leads::Away(way) => self.travel(&way, src),
        }
    }

    /// Follows a Service's backends, and keeps the hops to the first at which the packet does not arrive.
    fn behind(&mut self, proxied: Proxied, bridge: Option<&Link>, src: IpAddr) -> Step {
        let Proxied {
            mut service,
            masquerades_all,
        } = proxied;
        let before = self.hops.split_off(0);
        let mut kept: Option<(Vec<Hop>, Step)> = None;
        for backend in service.backends.iter_mut().take(FOLLOWED) {
            let step =
                self.reach_backend(backend.address, bridge.filter(|_| !masquerades_all), src);
            let hops = self.hops.split_off(0);
            let arrives = step.is_continue() && hops.iter().all(|hop| hop.problem.is_none());
            backend.arrives = Some(arrives);
            let is_good_so_far = kept.as_ref().is_none_or(|(_, step)| step.is_continue());
            if kept.is_none() || (is_good_so_far && !arrives) {
                kept = Some((hops, step));
            }
        }
        let (hops, step) = kept.unwrap_or((Vec::new(), Step::Break(())));
        self.hops = [before, hops].concat();
        self.service = Some(service);
        step
    }

    /// From kube-proxy's rules to a backend. The answer of one on the same bridge has to come by way of the rules, too.
    fn reach_backend(&mut self, to: SocketAddr, bridge: Option<&Link>, src: IpAddr) -> Step {
        let what = "kube-proxy's rules send it there";
        self.pass(Hop::new("node", format!("backend {to}"), what))?;
        let end = ends::find(&to.ip().to_string()).ok();
        let end = end.filter(|end| end.netns.is_some());
        let port = self.port_of(end.as_ref());
        if let (Some(bridge), Some(port)) = (bridge, port)
            && port.master == Some(bridge.index)
        {
            self.answers_pass_iptables(bridge, to.ip())?;
        }
        self.onward([src, to.ip()], end)
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
