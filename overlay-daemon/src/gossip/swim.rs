//! Who is there: SWIM by foca, with foca's timers kept here, and what of it the others need to know.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use foca::{
    AccumulatingRuntime, Config, Foca, NoCustomBroadcast, OwnedNotification, PeriodicParams,
    PostcardCodec,
};
use foca::{State, Timer};
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use super::Liveness;
use super::wire::PAYLOAD;

/// A process of a node, as SWIM knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Grows with each start of the process, and when the others have taken it for dead.
    pub generation: u64,
    /// The node: [`super::records::name_hash`] of its name.
    pub id: u64,
    /// Where it takes gossip.
    pub addr: SocketAddr,
}

impl foca::Identity for Identity {
    type Addr = u64;

    fn renew(&self) -> Option<Self> {
        Some(Self {
            generation: self.generation.saturating_add(1),
            ..*self
        })
    }

    fn addr(&self) -> u64 {
        self.id
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self >= adversary
    }
}

/// A timer of foca's, and when it is due. Foca's own order among those due together is kept.
type Due = Reverse<(Duration, Timer<Identity>)>;

/// The members, and foca.
pub struct Swim {
    foca: Foca<Identity, PostcardCodec, StdRng, NoCustomBroadcast>,
    runtime: AccumulatingRuntime<Identity>,
    timers: BinaryHeap<Due>,
    sized_for: u32,
    stale: bool,
    states: HashMap<u64, (Identity, Liveness, Duration)>,
    active: Vec<SocketAddr>,
    suspects: Vec<(Identity, u16)>,
}

impl std::fmt::Debug for Swim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Swim")
            .field("identity", self.foca.identity())
            .finish_non_exhaustive()
    }
}

/// What SWIM wants to be sent: where to, and the body of a [`super::wire::Message::Swim`].
pub type Sends = Vec<(SocketAddr, Vec<u8>)>;

fn config(members: u32) -> Config {
    Config {
        max_packet_size: NonZeroUsize::new(PAYLOAD - 8).unwrap_or(NonZeroUsize::MIN),
        periodic_announce: None,
        periodic_announce_to_down_members: Some(PeriodicParams {
            frequency: Duration::from_secs(5),
            num_members: NonZeroUsize::MIN,
        }),
        ..Config::new_lan(NonZeroU32::new(members).unwrap_or(NonZeroU32::MIN))
    }
}

impl Swim {
    /// Begins without company.
    pub fn new(identity: Identity, rng: StdRng) -> Self {
        Self {
            foca: Foca::new(identity, config(1), rng, PostcardCodec),
            runtime: AccumulatingRuntime::new(),
            timers: BinaryHeap::new(),
            sized_for: 1,
            stale: false,
            states: HashMap::new(),
            active: Vec::new(),
            suspects: Vec::new(),
        }
    }

    /// This process.
    pub fn identity(&self) -> Identity {
        *self.foca.identity()
    }

    /// When the next timer is due.
    pub fn next_tick(&self) -> Option<Duration> {
        self.timers.peek().map(|Reverse((due, _))| *due)
    }

    /// Runs the timers that are due.
    pub fn tick(&mut self, now: Duration) -> Sends {
        let mut sends = Vec::new();
        while self.next_tick().is_some_and(|due| due <= now) {
            let Some(Reverse((_, timer))) = self.timers.pop() else {
                break;
            };
            // Its errors say that a timer came too late or out of turn, which a suspended machine brings about.
            let _ = self.foca.handle_timer(timer, &mut self.runtime);
            sends.extend(self.drain(now));
        }
        sends
    }

    /// Takes a message; `None` if it is not one.
    pub fn receive(&mut self, body: &[u8], now: Duration) -> Option<Sends> {
        use foca::Error;
        let result = self.foca.handle_data(body, &mut self.runtime);
        let sends = self.drain(now);
        match result {
            Err(Error::Decode(_) | Error::MalformedPacket | Error::DataTooBig) => None,
            _ => Some(sends),
        }
    }

    /// A record or a neighbour tells of a process that SWIM may not have heard of.
    pub fn learn(&mut self, identity: Identity, down: bool, now: Duration) -> Sends {
        let known = self.states.get(&identity.id);
        if identity.id == self.identity().id || known.is_some_and(|(known, ..)| *known >= identity)
        {
            return Vec::new();
        }
        let member = foca::Member::new(identity, 0, if down { State::Down } else { State::Alive });
        let _ = self
            .foca
            .apply_many(std::iter::once(member), false, &mut self.runtime);
        let state = if down {
            Liveness::Down
        } else {
            Liveness::Alive
        };
        self.states.insert(identity.id, (identity, state, now));
        self.stale = true;
        self.drain(now)
    }

    /// Asks a process that is held to be down whether it is.
    pub fn announce(&mut self, id: u64, now: Duration) -> Sends {
        if let Some((identity, Liveness::Down, _)) = self.states.get(&id) {
            let _ = self.foca.announce(*identity, &mut self.runtime);
        }
        self.drain(now)
    }

    /// This process is another one from now on.
    pub fn change_identity(&mut self, identity: Identity, now: Duration) -> Sends {
        let _ = self.foca.change_identity(identity, &mut self.runtime);
        self.stale = true;
        self.drain(now)
    }

    /// Another node suspects this process.
    pub fn suspected(&mut self, identity: Identity, incarnation: u16, now: Duration) -> Sends {
        if identity == self.identity() {
            let member = foca::Member::new(identity, incarnation, State::Suspect);
            let _ = self
                .foca
                .apply_many(std::iter::once(member), true, &mut self.runtime);
        }
        self.drain(now)
    }

    /// The processes that are suspected, with the incarnation in which they are, as of the last refresh.
    pub fn suspects(&self) -> &[(Identity, u16)] {
        &self.suspects
    }

    /// Tells some members that this process ends.
    pub fn leave(&mut self, now: Duration) -> Sends {
        let _ = self.foca.leave_cluster(&mut self.runtime);
        self.drain(now)
    }

    /// Looks up what foca holds of everybody; returns who has changed. Costs O(members), so it is
    /// done once a second at most, and when foca has news.
    pub fn refresh(&mut self, now: Duration) -> Vec<u64> {
        if !self.stale && self.foca.updates_backlog() == 0 {
            return Vec::new();
        }
        self.stale = self.foca.updates_backlog() > 0;
        self.active.clear();
        self.suspects.clear();
        let mut changed = Vec::new();
        for member in self.foca.iter_membership_state() {
            let state = match member.state() {
                State::Alive => Liveness::Alive,
                State::Suspect => {
                    self.suspects.push((*member.id(), member.incarnation()));
                    Liveness::Suspect
                }
                State::Down => Liveness::Down,
            };
            if state != Liveness::Down {
                self.active.push(member.id().addr);
            }
            let known = self.states.get(&member.id().id);
            if known.is_some_and(|(id, was, _)| id == member.id() && *was == state) {
                continue;
            }
            let since = known
                .filter(|(_, was, _)| *was == state)
                .map(|(.., since)| *since);
            if since.is_none() {
                changed.push(member.id().id);
            }
            self.states
                .insert(member.id().id, (*member.id(), state, since.unwrap_or(now)));
        }
        // Foca tells a suspect only while the suspicion is news.
        self.stale |= !self.suspects.is_empty();
        let members = u32::try_from(self.active.len() + 1)
            .unwrap_or(u32::MAX)
            .next_power_of_two();
        if members != self.sized_for && self.foca.set_config(config(members)).is_ok() {
            self.sized_for = members;
        }
        changed
    }

    /// How the node is and since when, as of the last refresh.
    pub fn state(&self, id: u64) -> Option<(Liveness, Duration)> {
        self.states
            .get(&id)
            .map(|(_, state, since)| (*state, *since))
    }

    /// Where the members that are not down take gossip, as of the last refresh.
    pub fn active(&self) -> &[SocketAddr] {
        &self.active
    }

    fn drain(&mut self, now: Duration) -> Sends {
        while let Some((after, timer)) = self.runtime.to_schedule() {
            self.timers.push(Reverse((now + after, timer)));
        }
        while let Some(note) = self.runtime.to_notify() {
            self.stale |= !matches!(note, OwnedNotification::Active);
        }
        let mut sends = Vec::new();
        while let Some((to, body)) = self.runtime.to_send() {
            sends.push((to.addr, body.to_vec()));
        }
        sends
    }
}
