//! Who is to be probed next, who owes an answer, and what the answers tell: no sockets, no clock of its own.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use prometheus_client::metrics::histogram::Histogram;

use super::{BUDGET, REQUEST, SMALL, headers, payload};
use crate::plan::Reach;

/// Between two probes of one peer, where there are few peers: two beats, which are not exact to a moment.
const EACH: Duration = Duration::from_millis(1900);
/// An answer that takes longer is lost: by the next beat.
const PATIENCE: Duration = Duration::from_millis(900);
/// Of how many probes the loss is reckoned.
const REMEMBERED: u32 = 10;
/// A peer that probes at all does it within this time, if there are few.
const HEARD: Duration = Duration::from_secs(5);
/// So many large packets are not lost by chance while small ones pass.
const NARROW: u32 = 3;
/// Upper bounds in seconds, from one host to around the world.
const BUCKETS: [f64; 10] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0,
];

/// How the overlay carries packets to each peer, by name.
#[derive(Debug, Default)]
pub struct Probes {
    peers: BTreeMap<String, Probe>,
    /// Everyone, the one whose turn it is first.
    queue: VecDeque<String>,
    /// Who owes an answer, by the number of the probe.
    waiting: BTreeMap<u64, String>,
    /// Probes sent to all peers so far.
    pub sent: u64,
    /// Those of them that were not answered.
    pub lost: u64,
    /// How often a peer has become reachable, or unreachable, or of another MTU: as long as it stays, there is no news.
    pub turns: u64,
    /// Round trips, in seconds.
    pub round_trips: RoundTrips,
    /// The share of each ten probes of one peer that was lost.
    pub losses: Losses,
    /// The port that has to be open, for messages.
    pub vxlan_port: u16,
}

/// A histogram of round trips.
#[derive(Clone, Debug)]
pub struct RoundTrips(pub Histogram);

impl Default for RoundTrips {
    fn default() -> Self {
        Self(Histogram::new(BUCKETS))
    }
}

/// A histogram of shares.
#[derive(Clone, Debug)]
pub struct Losses(pub Histogram);

impl Default for Losses {
    fn default() -> Self {
        Self(Histogram::new([0.0, 0.1, 0.2, 0.3, 0.5, 0.9, 1.0]))
    }
}

/// How it carries them to one peer.
#[derive(Clone, Debug)]
pub struct Probe {
    address: IpAddr,
    /// The largest packet that the path should carry, in bytes.
    pub limit: u32,
    /// Last round trip time.
    pub rtt: Option<Duration>,
    /// The largest packet that came back, in bytes; less when large ones are lost again.
    pub mtu: Option<u32>,
    /// Large packets that were lost since the last one that was not.
    lost: u32,
    /// Whether each of the last ones was answered: a bit each, the newest lowest.
    answered: u16,
    /// How many those are.
    remembered: u32,
    /// How many of them the histogram of losses does not have yet.
    uncounted: u32,
    /// When the last one was sent, with its size in bytes.
    sent: Option<(Instant, u32)>,
    /// When its own last probe came.
    heard: Option<Instant>,
}

impl Probes {
    /// One peer's.
    pub fn get(&self, name: &str) -> Option<&Probe> {
        self.peers.get(name)
    }

    /// Whether a peer's own probes arrive here. It probes as many peers as this node does.
    pub fn is_heard(&self, name: &str) -> bool {
        let peers = u32::try_from(self.peers.len()).unwrap_or(u32::MAX);
        let patience = HEARD.max(Duration::from_secs(1) / BUDGET * 2 * peers);
        let heard = self.peers.get(name).and_then(|probe| probe.heard);
        heard.is_some_and(|heard| heard.elapsed() < patience)
    }

    /// Takes down that a peer's own probe has come.
    pub(super) fn hear(&mut self, from: IpAddr, now: Instant) {
        let sender = |probe: &&mut Probe| probe.address == from;
        if let Some(probe) = self.peers.values_mut().find(sender) {
            probe.heard = Some(now);
        }
    }

    /// Probes go to the base address of each peer's first CIDR: its VTEP has it.
    pub(super) fn follow(&mut self, peers: &BTreeMap<String, Reach>) {
        let wanted = |reach: &Reach| {
            let (cidr, limit) = reach.cidrs().next().zip(reach.mtu)?;
            Some((cidr.network(), limit))
        };
        let before = self.peers.len();
        self.peers.retain(|name, probe| {
            peers.get(name).and_then(wanted) == Some((probe.address, probe.limit))
        });
        let known = &self.peers;
        if known.len() < before {
            self.waiting.retain(|_, name| known.contains_key(name));
            self.queue.retain(|name| known.contains_key(name));
        }
        for (name, reach) in peers {
            if let Some((address, limit)) = wanted(reach)
                && !self.peers.contains_key(name)
            {
                self.peers.insert(name.clone(), Probe::new(address, limit));
                self.queue.push_front(name.clone());
            }
        }
    }

    /// Writes off what has not been answered in time, and returns the datagram that is due, if one is, with where it goes.
    pub(super) fn beat(&mut self, now: Instant) -> Option<(IpAddr, Vec<u8>)> {
        while let Some(oldest) = self.waiting.first_entry() {
            let probe = self.peers.get_mut(oldest.get());
            if probe
                .as_ref()
                .is_some_and(|probe| probe.waits_since(now) <= PATIENCE)
            {
                break;
            }
            oldest.remove();
            if let Some(probe) = probe {
                self.turns += u64::from(probe.remember(false, &self.losses));
                self.lost += 1;
            }
        }
        let probe = self.peers.get_mut(self.queue.front()?)?;
        if probe.due_in(now) > Duration::ZERO {
            return None;
        }
        self.sent += 1;
        let datagram = (probe.address, probe.next(self.sent, now));
        if let Some(name) = self.queue.pop_front() {
            self.waiting.insert(self.sent, name.clone());
            self.queue.push_back(name);
        }
        Some(datagram)
    }

    /// Takes an answer in.
    pub(super) fn answer(&mut self, number: u64, now: Instant) {
        let waiting = self.waiting.remove(&number);
        let probe = waiting.and_then(|name| self.peers.get_mut(&name));
        if let Some(probe) = probe
            && let Some((sent, size)) = probe.sent
        {
            let rtt = now.saturating_duration_since(sent);
            let before = probe.mtu;
            probe.rtt = Some(rtt);
            probe.measure(size);
            self.round_trips.0.observe(rtt.as_secs_f64());
            let turned = probe.remember(true, &self.losses);
            self.turns += u64::from(turned || probe.mtu != before);
        }
    }
}

impl Probe {
    fn new(address: IpAddr, limit: u32) -> Self {
        Self {
            address,
            limit,
            rtt: None,
            mtu: None,
            lost: 0,
            answered: 0,
            remembered: 0,
            uncounted: 0,
            sent: None,
            heard: None,
        }
    }

    /// Whether one of the last two was answered.
    pub fn is_answered(&self) -> bool {
        self.answered & 0b11 != 0
    }

    /// Whether too few have been sent to tell.
    pub fn is_new(&self) -> bool {
        self.remembered < 2
    }

    /// Unanswered ones of the last ten, in percent.
    pub fn loss_percent(&self) -> u8 {
        let lost = self.remembered - self.answered.count_ones();
        u8::try_from(lost * 100 / self.remembered.max(1)).unwrap_or(100)
    }

    /// How long until the next one.
    pub fn due_in(&self, now: Instant) -> Duration {
        self.sent.map_or(Duration::ZERO, |_| {
            EACH.saturating_sub(self.waits_since(now))
        })
    }

    fn waits_since(&self, now: Instant) -> Duration {
        self.sent.map_or(Duration::ZERO, |(sent, _)| {
            now.saturating_duration_since(sent)
        })
    }

    /// The next datagram: a full-sized one, and now and then after a lost one a small one, for what is lost only when it is
    /// large is a matter of the MTU.
    fn next(&mut self, number: u64, now: Instant) -> Vec<u8> {
        let was_lost = self.remembered > 0 && self.answered & 1 == 0;
        let small = was_lost && self.remembered.is_multiple_of(2);
        let smallest = headers(self.address) + SMALL;
        let size = if small {
            smallest
        } else {
            self.limit.max(smallest)
        };
        self.sent = Some((now, size));
        payload(REQUEST, number, self.address, size)
    }

    /// What a packet of `size` bytes that came back tells of the path.
    fn measure(&mut self, size: u32) {
        if size >= self.limit {
            self.lost = 0;
        }
        self.mtu = match self.is_narrow() {
            true => Some(size),
            false => self.mtu.max(Some(size)),
        };
    }

    /// Whether small packets pass and large ones do not.
    pub fn is_narrow(&self) -> bool {
        self.lost >= NARROW && self.is_answered()
    }

    /// Takes down what became of the last one, and says whether that makes the peer another in the eyes of a person.
    fn remember(&mut self, answered: bool, losses: &Losses) -> bool {
        let state = |probe: &Self| (probe.is_new(), probe.is_answered(), probe.is_narrow());
        let before = state(self);
        let large = self.sent.is_some_and(|(_, size)| size >= self.limit);
        self.lost += u32::from(large && !answered);
        if answered && self.answered == 0 {
            // The other daemon may not have been there before: that says nothing of the path.
            self.remembered = 0;
        }
        self.answered = ((self.answered << 1) | u16::from(answered)) & ((1 << REMEMBERED) - 1);
        self.remembered = (self.remembered + 1).min(REMEMBERED);
        self.uncounted += 1;
        if self.uncounted == REMEMBERED {
            self.uncounted = 0;
            losses.0.observe(f64::from(self.loss_percent()) / 100.0);
        }
        before != state(self)
    }
}

#[cfg(test)]
mod tests;
