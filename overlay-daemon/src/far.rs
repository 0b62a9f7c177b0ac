//! What one node asks another about a packet's way there, and what it is told: for `heddle trace`, over the port of the
//! probes.
//!
//! A question is answered only to addresses of known nodes, by facts about an address of a pod that the asker names:
//! nothing by which links, containers or other pods could be known. An answer is never longer than its question, so that
//! nobody's address can be flooded. Why it is not sealed stands in `docs/decisions/0013-asking-the-other-node.md`.

pub mod ask;
pub mod look;
pub mod tell;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::reconciler::Report;

/// What a question begins with; a number and the question follow, and zeros.
pub const QUESTION: &[u8; 4] = b"hdl:";
/// What an answer begins with; the number and [`Told`] follow.
pub const TOLD: &[u8; 4] = b"hdl;";
/// Length of a question in bytes; more than any answer has.
const LENGTH: usize = 128;
const HEADER: usize = 12;

/// A packet that is to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Where it comes from.
    pub src: IpAddr,
    /// Where it is to go.
    pub dst: IpAddr,
    /// Whether it comes through VXLAN, not on the underlay as it is.
    pub is_vxlan: bool,
}

/// What would become of it, as far as the node sees without looking into pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Whether `rp_filter` lets it in.
    pub is_let_in: bool,
    /// Where the route leads.
    pub lead: Lead,
    /// Whether the host forwards.
    pub forwards: bool,
    /// Whether the policy of iptables' chain FORWARD drops it.
    pub is_forward_dropped: bool,
    /// The bridge that pods are on, if it is there.
    pub bridge: Option<Interface>,
    /// The pod.
    pub pod: PodSeen,
    /// Whether there is a route of ours back to where it comes from; true for what is no pod's.
    pub has_way_back: bool,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lead {
    /// To the node itself.
    Node,
    /// To its pods.
    Pods,
    /// Away again.
    Elsewhere,
    /// Nowhere.
    Nowhere,
    /// Into a route that drops on purpose.
    Refused,
}

/// How an interface stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it is up.
    pub is_up: bool,
    /// Whether it has a carrier.
    pub has_carrier: bool,
    /// Whether it forwards, where it is the port of a bridge.
    pub is_forwarding: bool,
    /// Whether Heddle made it.
    pub is_ours: bool,
}

/// What there is of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodSeen {
    /// Nobody has leased the address.
    NotLeased,
    /// Its lease, and no port.
    Lease,
    /// The host's end of its veth pair.
    Port(Interface),
}

impl Question {
    /// The datagram.
    pub(crate) fn encode(&self, number: u64) -> Vec<u8> {
        let mut bytes = [&QUESTION[..], &number.to_be_bytes()].concat();
        // Cannot fail: there is memory for it.
        bytes.extend(postcard::to_allocvec(self).unwrap_or_default());
        bytes.resize(LENGTH, 0);
        bytes
    }

    /// The question of a datagram that begins with [`QUESTION`], and its number.
    pub fn decode(bytes: &[u8]) -> Option<(u64, Self)> {
        let (number, rest) = split(bytes)?;
        (bytes.len() == LENGTH).then_some(())?;
        let (question, _) = postcard::take_from_bytes(rest).ok()?;
        Some((number, question))
    }
}

impl Told {
    /// The datagram.
    pub fn encode(&self, number: u64) -> Vec<u8> {
        let mut bytes = [&TOLD[..], &number.to_be_bytes()].concat();
        bytes.extend(postcard::to_allocvec(self).unwrap_or_default());
        bytes.truncate(LENGTH);
        bytes
    }

    /// The answer to a question of this number.
    pub(crate) fn decode(bytes: &[u8], number: u64) -> Option<Self> {
        let (of, rest) = split(bytes).filter(|_| bytes.starts_with(TOLD))?;
        postcard::from_bytes(rest).ok().filter(|_| of == number)
    }
}

fn split(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let number = header[4..].try_into().map(u64::from_be_bytes).ok()?;
    Some((number, rest))
}

/// Whether an address is a known node's own: on the underlay, or the base of one of its CIDRs, which its VTEP has.
pub fn is_a_nodes(report: &Report, address: IpAddr) -> bool {
    report.peers.values().any(|reach| {
        reach.endpoint == Some(address) || reach.cidrs().any(|cidr| cidr.network() == address)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_answer_is_never_longer_than_its_question() {
        let question = Question {
            src: "fd32::1".parse().unwrap(),
            dst: "fd32::2".parse().unwrap(),
            is_vxlan: true,
        };
        let asked = question.encode(u64::MAX);
        assert_eq!(Question::decode(&asked), Some((u64::MAX, question)));
        assert_eq!(Question::decode(&asked[..LENGTH - 1]), None);
        let interface = Interface {
            mtu: u32::MAX,
            is_up: true,
            has_carrier: true,
            is_forwarding: true,
            is_ours: true,
        };
        let told = Told {
            is_let_in: true,
            lead: Lead::Refused,
            forwards: true,
            is_forward_dropped: true,
            bridge: Some(interface),
            pod: PodSeen::Port(interface),
            has_way_back: true,
        };
        let answer = told.encode(7);
        assert!(answer.len() < asked.len());
        assert_eq!(Told::decode(&answer, 7), Some(told));
        assert_eq!(Told::decode(&answer, 8), None);
    }
}
