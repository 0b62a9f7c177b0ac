//! What the node says of itself: one document for the socket, the screen and the metrics.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::drops::Drops;
use crate::fast_path;
use crate::membership::{Membership, PeerState, Warning};
use crate::plan::Way;
use crate::probe::Probes;
use crate::reconciler::Report;

/// The whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Status {
    /// This node's name.
    pub node: String,
    /// The program's version.
    pub version: String,
    /// Whether every known peer is programmed and the conflist is in place.
    pub ready: bool,
    /// Why not, and whatever else is wrong; a sentence each.
    pub problems: Vec<String>,
    /// What else a person may want to know.
    pub notes: Vec<String>,
    /// What is wrong elsewhere.
    #[serde(default)]
    pub warnings: Vec<Warning>,
    /// Packets that the host has dropped within the last ten seconds, by reason, where there are any.
    #[serde(default)]
    pub drops: BTreeMap<String, u64>,
    /// This node's pod CIDRs.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub pod_cidrs: Vec<IpNetwork>,
    /// Its interface on the underlay.
    pub underlay: Option<String>,
    /// Its addresses there.
    pub endpoints: Vec<IpAddr>,
    /// MTU of the overlay in bytes.
    pub mtu: Option<u32>,
    /// The conflist, where it is in place.
    pub conflist: Option<String>,
    /// How the fast path stands, where it is wanted.
    #[serde(default)]
    pub fast_path: Option<fast_path::State>,
    /// The other nodes, by name.
    pub peers: BTreeMap<String, Peer>,
    /// Passes over the kernel since the start.
    pub passes: u64,
    /// Changes made in the kernel since the start.
    pub writes: u64,
    /// The same by kind of row.
    #[serde(default)]
    pub changes: BTreeMap<String, u64>,
}

/// One of the other nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Peer {
    /// `established`, `probing`, `waiting` (for its pod CIDR), `unreachable`, `suspect`, `down` or `failed`.
    pub state: Cow<'static, str>,
    /// `vxlan`, `direct`, `direct+vxlan`, or `none`.
    pub path: Cow<'static, str>,
    /// Where it is on the underlay.
    pub endpoint: Option<IpAddr>,
    /// Its pod CIDRs.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub pod_cidrs: Vec<IpNetwork>,
    /// MTU of the path in bytes, as the probes found it.
    pub mtu: Option<u32>,
    /// Round trip time through the overlay, in microseconds.
    pub rtt_us: Option<u64>,
    /// Lost probes of the last ones, in percent.
    pub loss_percent: Option<u8>,
    /// Why it is not as it should be.
    pub reason: Option<String>,
    /// Seconds until the next probe.
    pub next_probe_s: Option<u64>,
}

/// What a [`Status`] is made from.
#[derive(Clone, Debug)]
pub struct Sources<'a> {
    /// This node's name.
    pub node: &'a str,
    /// What the membership source knows.
    pub membership: &'a Membership,
    /// What came of it in the kernel.
    pub report: &'a Report,
    /// How the overlay carries packets.
    pub probes: &'a Probes,
    /// Path of the conflist where it is in place, or why it is not.
    pub conflist: &'a Result<String, String>,
    /// How the fast path stands, where it is wanted.
    pub fast_path: &'a Option<fast_path::State>,
    /// What the host drops.
    pub drops: &'a Drops,
}

impl Sources<'_> {
    /// Puts the document together.
    pub fn status(&self) -> Status {
        let mut problems = [&self.membership.problems[..], &self.report.problems[..]].concat();
        problems.extend(self.conflist.as_ref().err().cloned());
        let mut peers: BTreeMap<String, Peer> = BTreeMap::new();
        for (name, reach) in self.report.peers.iter() {
            let peer = self.peer(name, reach);
            if let Some(problem) = &reach.problem {
                problems.push(format!("{name}: {problem}"));
            }
            peers.insert(name.clone(), peer);
        }
        let local = self.report.local.as_ref();
        Status {
            node: self.node.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: problems.is_empty() && self.report.passes > 0,
            problems,
            notes: self.membership.notes.clone(),
            warnings: self.membership.warnings.clone(),
            drops: counts(&self.drops.recent),
            pod_cidrs: self.membership.own_cidrs.clone(),
            underlay: local.map(|local| local.name.clone()),
            endpoints: local
                .map(|local| local.endpoints.clone())
                .unwrap_or_default(),
            mtu: local.map(crate::local::Local::overlay_mtu),
            conflist: self.conflist.clone().ok(),
            fast_path: self.fast_path.clone(),
            peers,
            passes: self.report.passes,
            writes: self.report.writes,
            changes: counts(&self.report.changes),
        }
    }

    fn peer(&self, name: &str, reach: &crate::plan::Reach) -> Peer {
        let has = |way| reach.ways.iter().any(|(_, found)| *found == way);
        let path = match (has(Way::Direct), has(Way::Vxlan)) {
            (true, true) => "direct+vxlan",
            (true, false) => "direct",
            (false, true) => "vxlan",
            (false, false) => "none",
        };
        let probe = self.probes.get(name);
        let state = match (self.membership.states.get(name), &reach.problem, probe) {
            (_, Some(_), _) => "failed",
            (Some(PeerState::Down), ..) => "down",
            (Some(PeerState::Suspect), ..) => "suspect",
            (_, None, None) if reach.ways.is_empty() => "waiting",
            (_, None, None) => "probing",
            (_, None, Some(probe)) if probe.is_answered() => "established",
            (_, None, Some(probe)) if probe.is_new() => "probing",
            (_, None, Some(_)) => "unreachable",
        };
        let silent = (state == "unreachable").then(|| self.silence(name, path));
        let narrow = probe.filter(|probe| state == "established" && probe.is_narrow());
        let narrow = narrow.map(|probe| {
            format!(
                "small packets pass and those of {} bytes, which pods send, do not",
                probe.limit
            )
        });
        Peer {
            state: state.into(),
            path: path.into(),
            endpoint: reach.endpoint,
            pod_cidrs: reach.cidrs().copied().collect(),
            mtu: probe.and_then(|probe| probe.mtu),
            rtt_us: probe
                .and_then(|probe| probe.rtt)
                .map(|rtt| rtt.as_micros().try_into().unwrap_or(u64::MAX)),
            loss_percent: probe.map(|probe| probe.loss_percent()),
            reason: reach.problem.clone().or(silent).or(narrow),
            next_probe_s: probe.map(|probe| probe.due_in(Instant::now()).as_secs()),
        }
    }

    /// Why a peer may be silent, by how it is reached and whether its own probes are heard.
    fn silence(&self, name: &str, path: &str) -> String {
        let port = self.probes.vxlan_port;
        match (path, self.probes.is_heard(name)) {
            ("direct", _) => {
                format!("no probe on the direct path is answered: does {name} run, and its daemon?")
            }
            (_, true) => format!(
                "no probe through the overlay is answered, though {name}'s own arrive: what this node sends to UDP port {port} is lost on the way to {name}"
            ),
            (_, false) => format!(
                "no probe through the overlay is answered: is UDP port {port} open on the way and on {name}?"
            ),
        }
    }
}

fn counts(counts: &BTreeMap<&'static str, u64>) -> BTreeMap<String, u64> {
    let owned = |(name, count): (&&str, &u64)| ((*name).to_owned(), *count);
    counts.iter().map(owned).collect()
}

impl Status {
    /// How many addresses for pods this node's IPv4 CIDRs have: network, gateway and broadcast are not given out. No node
    /// runs out of IPv6.
    pub fn room(&self) -> u64 {
        let sizes = self.pod_cidrs.iter().filter_map(|cidr| match cidr.size() {
            ipnetwork::NetworkSize::V4(size) => Some(u64::from(size.saturating_sub(3))),
            ipnetwork::NetworkSize::V6(_) => None,
        });
        sizes.sum()
    }
}
