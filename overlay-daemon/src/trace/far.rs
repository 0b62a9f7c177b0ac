//! The other node's part of the way, as its daemon tells it.

use std::net::IpAddr;
use std::time::Duration;

use super::underlay::Way;
use super::{Hop, Step, Tracer};
use crate::far::ask::{Answer, Ends, ask};
use crate::far::look::forwarding_key;
use crate::far::{Interface, Lead, PodSeen, Question, Told};
use crate::names::DEVICE;
use crate::status::Peer;

impl Tracer<'_> {
    /// From where the packet comes in at `peer`, called `name`, into the pod.
    pub(super) fn enter(&mut self, way: &Way, src: IpAddr, name: &str, peer: &Peer) -> Step {
        let question = Question {
            src,
            dst: way.dst,
            is_vxlan: way.dev.name == DEVICE,
        };
        let [over, below] = self.ask_peer(peer, &question);
        let is_lost = matches!(&*peer.state, "unreachable" | "down" | "suspect");
        let hop = Hop::new(name, format!("pod {}", way.dst), "").owned(true);
        let port = self.config.vxlan_port;
        let hop = match (over, below) {
            (Answer::Told(told), _) => return self.through_peer(name, &question, &told),
            (_, Answer::Told(told)) if !is_lost => {
                return self.through_peer(name, &question, &told);
            }
            (_, Answer::Told(_)) => hop.blocked(
                format!("{name} answers on the underlay, but not through the overlay"),
                format!("heddle doctor on {name}; is UDP port {port} open on the way?"),
            ),
            // That nobody listens was said by way of the overlay: it carries.
            (Answer::NoDaemon, _) => Hop {
                what: "not asked: no daemon runs there, but the way to it works".into(),
                ..hop
            },
            (_, Answer::NoDaemon) if is_lost => hop.blocked(
                format!("no daemon runs on {name}, and the overlay does not carry to it"),
                format!("start heddle daemon on {name}, then heddle doctor there"),
            ),
            _ if is_lost => hop.blocked(
                format!(
                    "{name} is {}: {}",
                    peer.state,
                    peer.reason.as_deref().unwrap_or("it does not answer")
                ),
                format!("heddle doctor on {name}; is UDP port {port} open on the way?"),
            ),
            _ => Hop {
                what: "not asked: its daemon does not answer; heddle trace node, there".into(),
                ..hop
            },
        };
        self.pass(hop)
    }

    /// By the way that packets take, and on the underlay.
    fn ask_peer(&self, peer: &Peer, question: &Question) -> [Answer; 2] {
        let same = |ip: &IpAddr| ip.is_ipv4() == question.dst.is_ipv4();
        let bases = |cidrs: &[ipnetwork::IpNetwork]| {
            let mut bases = cidrs.iter().map(ipnetwork::IpNetwork::network);
            bases.find(same)
        };
        let Some(status) = self.status else {
            return Default::default();
        };
        let over = bases(&status.pod_cidrs).zip(bases(&peer.pod_cidrs));
        let below = peer.endpoint.and_then(|other| {
            let mut own = status.endpoints.iter().copied();
            let own = own.find(|own| own.is_ipv4() == other.is_ipv4())?;
            Some((own, other))
        });
        let ends = |pair: (IpAddr, IpAddr)| Ends {
            own: pair.0,
            other: pair.1,
        };
        let rtt = Duration::from_micros(peer.rtt_us.unwrap_or_default());
        // Without VXLAN the underlay is the way, and a node answers from its address there.
        let ways = match question.is_vxlan {
            true => [over, below],
            false => [below, None],
        };
        ask(
            ways.map(|way| way.map(ends)),
            self.config.probe_port,
            question,
            rtt,
        )
    }

    fn through_peer(&mut self, name: &str, question: &Question, told: &Told) -> Step {
        let Question { src, dst, .. } = *question;
        if !told.is_let_in {
            let hop = Hop::new(name, "sysctl rp_filter", "").blocked(
                format!("{name} drops packets that come another way than the answer would go"),
                format!(
                    "sysctl -w net.ipv4.conf.all.rp_filter=2 on {name}; is its route to {src} in place?"
                ),
            );
            self.pass(hop)?;
        }
        let hop = Hop::new(name, format!("route to {dst}"), "leads to its pods");
        let there = format!("ip route get {dst}, on {name}");
        match told.lead {
            Lead::Node => {
                let hop = Hop::new(name, format!("address {dst}"), "is the node's own: arrives");
                self.pass(hop)?;
                return self.way_back(name, src, told);
            }
            Lead::Pods => self.pass(hop)?,
            Lead::Elsewhere => self.pass(hop.blocked(
                format!("{name} sends it away again: its route does not lead to its pods"),
                there,
            ))?,
            Lead::Nowhere => {
                self.pass(hop.blocked(format!("{name} has no route to its own pods"), there))?
            }
            Lead::Refused => self.pass(hop.blocked(
                format!("a blackhole, unreachable or prohibit route of {name} drops it"),
                there,
            ))?,
        }
        let key = forwarding_key(dst);
        let hop = Hop::new(name, format!("sysctl {key}"), "the host forwards");
        self.pass(match told.forwards {
            true => hop,
            false => hop.blocked(
                format!("{name} does not forward"),
                format!("sysctl -w {}=1 on {name}", key.replace('/', ".")),
            ),
        })?;
        if told.is_forward_dropped {
            let hop = Hop::new(name, "iptables's chain FORWARD", "").blocked(
                format!("its policy is DROP on {name}, and no rule of ours lets pods through"),
                format!("iptables -P FORWARD ACCEPT on {name}, or \"ingress_policy\" = \"open\" in its configuration"),
            );
            self.pass(hop)?;
        }
        if let Some(bridge) = &told.bridge {
            let object = format!("bridge {}", self.config.bridge);
            self.stands_there(name, &object, bridge)?;
        }
        let pod = Hop::new(name, format!("pod {dst}"), "arrives").owned(true);
        match &told.pod {
            PodSeen::Port(port) => self.stands_there(name, &format!("port of {dst}"), port)?,
            PodSeen::NotLeased => self.pass(pod.clone().blocked(
                format!("no pod of {name} has {dst}: it is not leased"),
                "kubectl get pods -o wide, or heddle doctor there",
            ))?,
            PodSeen::Lease => self.pass(pod.clone().blocked(
                format!("no pod of {name} has {dst}: its lease is left from one that has gone"),
                format!("heddle gc on {name}"),
            ))?,
        }
        self.way_back(name, src, told)?;
        self.pass(pod)
    }

    fn way_back(&mut self, name: &str, src: IpAddr, told: &Told) -> Step {
        if told.has_way_back {
            return Step::Continue(());
        }
        let hop = Hop::new(name, format!("route to {src}"), "").blocked(
            format!("{name} has no route back to this node's pods: answers are lost"),
            format!("heddle status on {name}: its daemon puts it back when it runs"),
        );
        self.pass(hop)
    }

    fn stands_there(&mut self, name: &str, object: &str, seen: &Interface) -> Step {
        let hop = Hop {
            mtu: Some(seen.mtu),
            ..Hop::new(name, object, "").owned(seen.is_ours)
        };
        let there = format!("ip link show, on {name}");
        self.pass(match seen {
            Interface { is_up: false, .. } => hop.blocked("it is down", there),
            Interface {
                has_carrier: false, ..
            } => hop.blocked("it has no carrier: its other end is down", there),
            Interface {
                is_forwarding: false,
                ..
            } => hop.blocked("it does not forward as a port of the bridge", there),
            _ => hop,
        })
    }
}
