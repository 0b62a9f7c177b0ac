//! One object on a packet's way, and what it does there.

use netlink::{Link, link};
use serde::Serialize;

/// An object that a packet passes, or does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Hop {
    /// Whose object it is: `pod`, `node`, `underlay`, or a peer's name.
    pub place: String,
    /// The object.
    pub object: String,
    /// What it does with the packet.
    pub what: String,
    /// Whether Heddle made it.
    pub ours: bool,
    /// Its MTU in bytes, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// What it has carried since it was made, where it counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counters: Option<Counters>,
    /// With `--live`: whether marked packets were seen there, where it is a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<bool>,
    /// Why the packet gets no further.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// The link that a packet passes here.
    #[serde(skip)]
    pub(super) link: Option<(Place, u32)>,
}

/// Whose network namespace a link is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// This node's.
    Here,
    /// That of the pod which sends.
    Source,
    /// That of the pod which is sent to.
    Destination,
}

/// What a link has carried since it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Counters {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received and dropped, or with an error.
    pub rx_lost: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets that were not sent: dropped, or by an error.
    pub tx_lost: u64,
}

impl From<link::Counters> for Counters {
    fn from(counted: link::Counters) -> Self {
        Self {
            rx_packets: counted.rx_packets,
            rx_bytes: counted.rx_bytes,
            rx_lost: counted.rx_dropped + counted.rx_errors,
            tx_packets: counted.tx_packets,
            tx_bytes: counted.tx_bytes,
            tx_lost: counted.tx_dropped + counted.tx_errors,
        }
    }
}

/// Why a packet gets no further.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Problem {
    /// A sentence.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl Hop {
    pub(super) fn new(place: &str, object: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            place: place.to_owned(),
            object: object.into(),
            what: what.into(),
            ours: false,
            mtu: None,
            counters: None,
            seen: None,
            problem: None,
            link: None,
        }
    }

    pub(super) fn link(place: &str, link: &Link, what: impl Into<String>) -> Self {
        let kind = link.kind.as_deref().unwrap_or("device");
        let ours = link
            .alias
            .as_deref()
            .is_some_and(|alias| alias.starts_with("heddle"));
        Self {
            mtu: Some(link.mtu),
            ..Self::new(place, format!("{kind} {}", link.name), what)
        }
        .owned(ours || link.name == crate::names::DEVICE)
    }

    pub(super) fn owned(self, ours: bool) -> Self {
        Self { ours, ..self }
    }

    pub(super) fn blocked(self, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        let problem = Some(Problem {
            reason: reason.into(),
            remedy: remedy.into(),
        });
        Self { problem, ..self }
    }
}
