//! Membership and CIDR claims without a store: the sans-IO state machine that the gossip source drives.
//!
//! No socket, no clock and no file is touched here. The driver gives datagrams and ticks in, with the time, and
//! carries the outputs out, in order. What it does and why it is safe stands in `docs/gossip.md`.

pub mod claims;
pub mod elector;
pub mod ledger;
pub mod machine;
pub mod records;
pub mod seal;
pub mod swim;
pub mod wire;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

pub use claims::{Claim, ClaimState, Fence};
pub use elector::Grant;
pub use ledger::Ledger;
pub use machine::Machine;
pub use records::Record;
pub use seal::Key;

use crate::Node;
use seal::{Refused, Seal};

/// How long it is known that somebody has used another key, and how many of them.
const STRANGERS: Duration = Duration::from_secs(60);
const MOST_STRANGERS: usize = 8;

/// What the machine is told once, at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node's name, unique in the cluster, 1 to 253 bytes.
    pub name: String,
    /// The UDP port that it listens on.
    pub listen_port: u16,
    /// Its addresses on the underlay; the first is the one at which it takes gossip.
    pub endpoints: Vec<IpAddr>,
    /// The MAC address of its VTEP.
    pub vtep_mac: [u8; 6],
    /// The electors, 1, 3 or 5 (2 and 4 while changing them), the same in every node's configuration; also the
    /// addresses that a node without company turns to.
    pub peers: Vec<SocketAddr>,
    /// The cluster's keys: the first seals, all open.
    pub keys: Vec<Key>,
    /// How many node CIDRs the cluster's range has.
    pub slots: u32,
    /// How long a slot stays its owner's after the electors last heard of the owner.
    pub quarantine: Duration,
    /// Seed of the random choices (peers, delays, nonces). Must be unpredictable and new at each start.
    pub seed: [u8; 32],
}

impl Settings {
    /// The default quarantine: one day.
    pub const QUARANTINE: Duration = Duration::from_secs(24 * 3600);
}

/// What must outlive the process. The driver keeps it in one file, written whole, by rename, with fsync.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Tells this disk from another one that once had the same name. Drawn at the first start.
    pub instance: u64,
    /// The last session's number: µs since the epoch when it began, always greater than the one before.
    pub session: u64,
    /// The slot that this node owns.
    pub claim: Option<Claim>,
    /// The last attempt's number; strictly increasing.
    pub last_attempt: u64,
    /// When (ms since the epoch, by this node's clock) a majority of `electors` last confirmed the claim.
    pub last_majority_wall: Option<u64>,
    /// The electors that `last_majority_wall` speaks of.
    pub electors: Vec<SocketAddr>,
    /// What this node has granted as an elector.
    pub grants: Vec<Grant>,
    /// The records that it knew; a cache: whom to turn to, and what to show, after a restart.
    pub known: Vec<Record>,
}

/// The two clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// Since this process began; must not stop while the machine sleeps (`CLOCK_BOOTTIME`).
    pub monotonic: Duration,
    /// Since the epoch.
    pub wall: Duration,
}

/// What happens to the machine.
#[derive(Clone, Debug)]
pub enum Input {
    /// A datagram came.
    Datagram {
        /// The source address.
        from: SocketAddr,
        /// All of it.
        bytes: Vec<u8>,
    },
    /// [`Gossip::next_tick`] has come.
    Tick,
    /// The addresses on the underlay are these now.
    SetEndpoints(Vec<IpAddr>),
    /// The pod CIDRs of this node are these now: the driver's translation of the slot.
    SetPodCidrs(Vec<IpNetwork>),
    /// The node of this name is gone for good: drop its record and its grants. Never for a node that may return
    /// with its disk.
    Forget(String),
    /// This process is about to end: tell the others. The claim stays.
    Leave,
}

/// What the driver has to do, in the order given, before it asks for [`Gossip::may_hand_out`] again.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send one datagram.
    Send {
        /// Where to.
        to: SocketAddr,
        /// All of it.
        bytes: Vec<u8>,
        /// Whether it promises what an earlier [`Output::Store`] holds: not to be sent before that is written.
        is_promise: bool,
    },
    /// Write this down, with fsync, before carrying out what follows. If several inputs are handled at once only the
    /// last one need be written, before everything that follows the first one. While it cannot be written,
    /// [`Ledger`] says what may be done all the same.
    Store(Box<Stored>),
    /// [`Gossip::nodes`] or [`Gossip::claim`] may say something new.
    Changed,
}

/// How a node is, as far as this one knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Liveness {
    /// It answers.
    Alive,
    /// It has not answered lately, or not yet since this process began.
    Suspect,
    /// It does not answer.
    Down,
}

/// One node of the cluster, this one included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What it says of itself.
    pub node: Node,
    /// How it is.
    pub state: Liveness,
    /// Since when, by the monotonic clock.
    pub since: Duration,
    /// The slot that it says it owns.
    pub slot: Option<u32>,
    /// Where it takes gossip.
    pub address: SocketAddr,
    /// When its process began by its own clock, in µs since the epoch; later than that, if it was ever before.
    pub session: u64,
}

/// What has gone over the wire and what has not come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams sent.
    pub sent_datagrams: u64,
    /// Their bytes, without UDP and IP.
    pub sent_bytes: u64,
    /// Datagrams received, the dropped ones included.
    pub received_datagrams: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Dropped: sealed with none of our keys, or altered.
    pub wrong_key: u64,
    /// Dropped: seen before, or of a session that has ended.
    pub replay: u64,
    /// Dropped: a version of the protocol that is not spoken here.
    pub version: u64,
    /// Dropped: too short, or not to be understood.
    pub garbage: u64,
    /// Dropped: sent by a node that uses this node's name.
    pub same_name: u64,
}

/// The machine with its seal: what the daemon runs.
#[derive(Debug)]
pub struct Gossip {
    machine: Machine,
    seal: Seal,
    counters: Counters,
    strangers: BTreeMap<IpAddr, Duration>,
}

impl Gossip {
    /// Begins a session from what the last one left.
    pub fn new(settings: Settings, stored: Option<Stored>, now: Time) -> (Self, Vec<Output>) {
        let keys = settings.keys.clone();
        let (name, seed) = (settings.name.clone(), settings.seed);
        let (machine, outputs) = Machine::new(settings, stored, now);
        let seal = Seal::new(&keys, name, machine.session(), seed);
        let mut gossip = Self {
            machine,
            seal,
            counters: Counters::default(),
            strangers: BTreeMap::new(),
        };
        let outputs = gossip.sealed(outputs);
        (gossip, outputs)
    }

    /// Takes one input; what comes back is to be carried out in order.
    pub fn handle(&mut self, input: Input, now: Time) -> Vec<Output> {
        let Input::Datagram { from, bytes } = input else {
            let outputs = self.machine.handle(input, now);
            return self.sealed(outputs);
        };
        self.counters.received_datagrams += 1;
        self.counters.received_bytes += bytes.len() as u64;
        match self.seal.open(bytes) {
            Ok(opened) => {
                let outputs = self
                    .machine
                    .receive(from, &opened.sender, &opened.payload, now);
                self.sealed(outputs)
            }
            Err(refused) => {
                refused.count(&mut self.counters);
                if refused == Refused::WrongKey {
                    self.notice_stranger(from.ip(), now.monotonic);
                }
                let outputs = self.machine.refused(from, &refused, now);
                self.sealed(outputs)
            }
        }
    }

    /// Anyone can make anything up: few are remembered, and not for long.
    fn notice_stranger(&mut self, from: IpAddr, now: Duration) {
        self.strangers
            .retain(|_, heard| now.saturating_sub(*heard) < STRANGERS);
        if self.strangers.len() < MOST_STRANGERS || self.strangers.contains_key(&from) {
            self.strangers.insert(from, now);
        }
    }

    /// Addresses from which datagrams have come within the last minute that none of the keys opens; not more than eight.
    pub fn strangers(&self, now: Time) -> impl Iterator<Item = IpAddr> {
        let heard = self.strangers.iter();
        heard
            .filter(move |(_, heard)| now.monotonic.saturating_sub(**heard) < STRANGERS)
            .map(|(address, _)| *address)
    }

    fn sealed(&mut self, mut outputs: Vec<Output>) -> Vec<Output> {
        for output in &mut outputs {
            if let Output::Send { bytes, .. } = output {
                *bytes = self.seal.seal(bytes);
                self.counters.sent_datagrams += 1;
                self.counters.sent_bytes += bytes.len() as u64;
            }
        }
        outputs
    }

    /// When [`Input::Tick`] is due next, by the monotonic clock.
    pub fn next_tick(&self) -> Duration {
        self.machine.next_tick()
    }

    /// Every node known and not forgotten, this one included, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Member> {
        self.machine.nodes()
    }

    /// How it stands with this node's slot, as of the last input.
    pub fn claim(&self) -> ClaimState {
        self.machine.claim()
    }

    /// Whether addresses of the held slot may be given to new pods now.
    pub fn may_hand_out(&self, now: Time) -> bool {
        self.machine.may_hand_out(now)
    }

    /// The address of another node that runs under this node's name, once one has been seen.
    pub fn same_name(&self) -> Option<SocketAddr> {
        self.machine.same_name()
    }

    /// What went over the wire.
    pub fn counters(&self) -> Counters {
        Counters {
            garbage: self.counters.garbage + self.machine.garbage(),
            ..self.counters
        }
    }
}

#[cfg(test)]
mod tests;
