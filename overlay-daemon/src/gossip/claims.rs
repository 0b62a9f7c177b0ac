//! An owner: gets a slot granted by a majority of the electors, keeps it, and knows when it may no longer use it.

mod contacts;
mod order;
mod state;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::wire::{ClaimRequest, Message};
use contacts::Contacts;
use order::Order;
pub use state::{Claim, ClaimState, Fence};

/// What an owner is and whom it asks.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The owner's name.
    pub name: String,
    /// Its instance.
    pub instance: u64,
    /// Its session.
    pub session: u64,
    /// The electors.
    pub electors: Vec<SocketAddr>,
    /// How many slots there are.
    pub slots: u32,
    /// How long a grant outlives its owner.
    pub quarantine: Duration,
}

/// A claim taken over from the last process.
#[derive(Clone, Copy, Debug)]
pub struct Inherited {
    /// The claim.
    pub claim: Claim,
    /// How long ago a majority confirmed it, or why that is not known.
    pub age: Result<Duration, Fence>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Between two attempts.
    Waiting {
        until: Duration,
        exhausted: bool,
    },
    /// The electors have been asked; with a deadline once one of them has denied.
    Asking {
        claim: Claim,
        deadline: Option<Duration>,
    },
    Held(Claim),
}

/// Who has which slot, by the records, and whether that node is there.
pub type Taken = BTreeMap<u32, bool>;

/// Messages to electors.
pub type Sends = Vec<(SocketAddr, Message)>;

/// The owner's side of the claims.
#[derive(Debug)]
pub struct Owner {
    setup: Setup,
    rng: SmallRng,
    last_attempt: u64,
    phase: Phase,
    contacts: Contacts,
    /// From when on the inherited confirmation no longer counts.
    inherited_until: Option<Duration>,
    /// When that confirmation was, in µs before (negative) the start of this process.
    inherited_at: Option<i64>,
    fence: Fence,
    fenced: Option<Duration>,
    position: u32,
    tried: u32,
    resend: Duration,
    resends: u32,
    confirmed_stored: Option<i64>,
    dirty: bool,
}

impl Owner {
    /// Begins with what the last process left, if it left any.
    pub fn new(
        setup: Setup,
        last_attempt: u64,
        inherited: Option<Inherited>,
        seed: u64,
        now: Duration,
    ) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let soon = now + Duration::from_millis(rng.random_range(200..400));
        let mut owner = Self {
            rng,
            last_attempt,
            phase: Phase::Waiting {
                until: soon,
                exhausted: false,
            },
            contacts: Contacts::default(),
            inherited_until: None,
            inherited_at: None,
            fence: Fence::NoMajority,
            fenced: None,
            position: 0,
            tried: 0,
            resend: now,
            resends: 0,
            confirmed_stored: None,
            dirty: false,
            setup,
        };
        if let Some(Inherited { claim, age }) =
            inherited.filter(|inherited| inherited.claim.slot < owner.setup.slots)
        {
            owner.phase = Phase::Held(claim);
            match age {
                Ok(age) if age <= owner.setup.quarantine / 4 => {
                    owner.inherited_until = Some(now + owner.setup.quarantine / 4 - age);
                    owner.inherited_at = Some(micros(now) - micros(age));
                    owner.confirmed_stored = owner.inherited_at;
                }
                Ok(_) => owner.fence = Fence::Restarted,
                Err(fence) => owner.fence = fence,
            }
            owner.note_fence(now);
        }
        owner
    }

    /// The claim to be written down.
    pub fn claim(&self) -> Option<Claim> {
        match self.phase {
            Phase::Held(claim) => Some(claim),
            _ => None,
        }
    }

    /// The number of the last attempt, to be written down.
    pub fn last_attempt(&self) -> u64 {
        self.last_attempt
    }

    /// When a majority last confirmed the claim, in µs since the start of this process; negative if before it.
    pub fn confirmed_at(&self) -> Option<i64> {
        self.majority_at().map(micros).max(self.inherited_at)
    }

    /// Whether there is something new to be written down, once.
    pub fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    /// Whether addresses may be handed out.
    pub fn may_hand_out(&self, now: Duration) -> bool {
        matches!(self.phase, Phase::Held(_))
            && self.usable_until().is_some_and(|until| now <= until)
    }

    /// How it stands.
    pub fn state(&self, now: Duration) -> ClaimState {
        match self.phase {
            Phase::Held(Claim { slot, .. }) if self.may_hand_out(now) => ClaimState::Held { slot },
            Phase::Held(Claim { slot, .. }) => ClaimState::Fenced {
                slot,
                since: self.fenced.unwrap_or(now),
                why: self.fence,
            },
            Phase::Waiting {
                exhausted: true, ..
            } => ClaimState::Exhausted,
            Phase::Waiting { .. } => ClaimState::Searching {
                slot: None,
                tried: self.tried,
            },
            Phase::Asking { claim, .. } => ClaimState::Searching {
                slot: Some(claim.slot),
                tried: self.tried,
            },
        }
    }

    /// When there is something to do without being asked.
    pub fn next_tick(&self) -> Duration {
        match self.phase {
            Phase::Waiting { until, .. } => until,
            Phase::Asking {
                deadline: Some(deadline),
                ..
            } => deadline.min(self.resend),
            Phase::Asking { .. } => self.resend,
            Phase::Held(_) => match (self.fenced, self.usable_until()) {
                (None, Some(until)) => self.resend.min(until + Duration::from_micros(1)),
                _ => self.resend,
            },
        }
    }

    /// Asks, asks again, gives up or goes on, as the time demands.
    pub fn tick(&mut self, taken: impl Fn() -> Taken, now: Duration) -> Sends {
        match self.phase {
            Phase::Waiting { until, .. } if until <= now => self.begin(&taken(), now),
            Phase::Asking {
                claim,
                deadline: Some(deadline),
            } if deadline <= now => self.give_up(claim, now),
            Phase::Asking { claim, .. } if self.resend <= now => {
                self.resends += 1;
                let pause = Duration::from_millis(500) * (1 << self.resends.min(4));
                self.resend = now + self.jittered(pause);
                self.ask(claim, now)
            }
            Phase::Held(claim) => {
                self.note_fence(now);
                if self.resend > now {
                    return Sends::new();
                }
                let interval = self.interval();
                let pause = if self.fenced.is_some() {
                    interval.min(Duration::from_secs(5))
                } else {
                    interval
                };
                self.resend = now + self.jittered(pause);
                self.ask(claim, now)
            }
            _ => Sends::new(),
        }
    }

    /// Takes an elector's answer.
    pub fn answered(
        &mut self,
        from: &str,
        of: &ClaimRequest,
        granted: bool,
        now: Duration,
    ) -> Sends {
        let (Phase::Asking { claim, .. } | Phase::Held(claim)) = self.phase else {
            return Sends::new();
        };
        let sent = Duration::from_micros(of.sent);
        let setup = &self.setup;
        let ours =
            of.owner == setup.name && of.instance == setup.instance && of.session == setup.session;
        let current = of.slot == claim.slot && of.attempt == claim.attempt && sent <= now;
        if !ours || !current || !setup.electors.contains(&of.elector) {
            return Sends::new();
        }
        self.contacts.answered(of.elector, from, sent, granted);
        self.decide(now)
    }

    /// The node was forgotten: the claim is no more, and the session is another one.
    pub fn forgotten(&mut self, session: u64, now: Duration) {
        self.setup.session = session;
        self.lose(now);
    }

    fn decide(&mut self, now: Duration) -> Sends {
        let electors = self.setup.electors.len();
        let denials = self.contacts.denials();
        let out_of_reach = denials > electors.saturating_sub(self.majority());
        let confirmed = self
            .majority_at()
            .is_some_and(|at| now <= at + self.setup.quarantine / 2);
        match self.phase {
            Phase::Asking { claim, .. } if confirmed => {
                self.phase = Phase::Held(claim);
                (self.tried, self.position, self.fenced, self.dirty) = (0, 0, None, true);
                self.confirmed_stored = self.confirmed_at();
                self.resend = now + self.jittered(self.interval());
            }
            Phase::Asking { claim, .. } if out_of_reach => return self.give_up(claim, now),
            Phase::Asking {
                claim,
                deadline: None,
            } if denials > 0 => {
                let deadline = Some(now + Duration::from_millis(self.rng.random_range(1000..3000)));
                self.phase = Phase::Asking { claim, deadline };
            }
            Phase::Held(_) if out_of_reach => self.lose(now),
            Phase::Held(_) => {
                self.note_fence(now);
                let stale = micros(self.setup.quarantine / 50);
                if let Some(at) = self.confirmed_at()
                    && self
                        .confirmed_stored
                        .is_none_or(|stored| at - stored >= stale)
                {
                    self.confirmed_stored = Some(at);
                    self.dirty = true;
                }
            }
            _ => {}
        }
        Sends::new()
    }

    fn begin(&mut self, taken: &Taken, now: Duration) -> Sends {
        let Some(slot) = self.next_slot(taken) else {
            self.position = 0;
            let until = now + self.jittered(self.interval());
            self.phase = Phase::Waiting {
                until,
                exhausted: true,
            };
            return Sends::new();
        };
        // Only a damaged state file brings it near its end.
        self.last_attempt = self.last_attempt.saturating_add(1);
        self.dirty = true;
        self.contacts.clear();
        let claim = Claim {
            slot,
            attempt: self.last_attempt,
        };
        self.phase = Phase::Asking {
            claim,
            deadline: None,
        };
        self.resends = 0;
        self.resend = now + self.jittered(Duration::from_millis(500));
        self.ask(claim, now)
    }

    fn give_up(&mut self, claim: Claim, now: Duration) -> Sends {
        // Had it any grant, somebody else may have had one too: not both at once again.
        let split = self.contacts.any_granted();
        let pause = self.rng.random_range(if split { 50..1000 } else { 1..20 });
        self.phase = Phase::Waiting {
            until: now + Duration::from_millis(pause),
            exhausted: false,
        };
        self.tried += 1;
        let Claim { slot, attempt } = claim;
        let release = Message::Release {
            instance: self.setup.instance,
            slot,
            attempt,
        };
        self.setup
            .electors
            .iter()
            .map(|elector| (*elector, release.clone()))
            .collect()
    }

    fn lose(&mut self, now: Duration) {
        self.contacts.clear();
        (
            self.inherited_at,
            self.inherited_until,
            self.fenced,
            self.confirmed_stored,
        ) = (None, None, None, None);
        (self.fence, self.position, self.tried, self.dirty) = (Fence::NoMajority, 0, 0, true);
        let until = now + Duration::from_millis(self.rng.random_range(50..1000));
        self.phase = Phase::Waiting {
            until,
            exhausted: false,
        };
    }

    fn ask(&self, claim: Claim, now: Duration) -> Sends {
        let request = |elector: &SocketAddr| ClaimRequest {
            owner: self.setup.name.clone(),
            instance: self.setup.instance,
            session: self.setup.session,
            slot: claim.slot,
            attempt: claim.attempt,
            sent: now.as_micros() as u64,
            elector: *elector,
        };
        self.setup
            .electors
            .iter()
            .map(|elector| (*elector, Message::Claim(request(elector))))
            .collect()
    }

    /// The next slot of this node's order: first those that nobody is known to have, then those whose owner is not
    /// there.
    fn next_slot(&mut self, taken: &Taken) -> Option<u32> {
        let slots = u64::from(self.setup.slots);
        let order = Order::new(&self.setup.name, slots)?;
        while u64::from(self.position) < 2 * slots {
            let position = u64::from(self.position);
            let slot = order.slot(position % slots);
            self.position += 1;
            let wanted = if position < slots { None } else { Some(&false) };
            if taken.get(&slot) == wanted {
                return Some(slot);
            }
        }
        None
    }

    fn majority(&self) -> usize {
        self.setup.electors.len() / 2 + 1
    }

    /// Since when a majority knows: the time at which the k-th newest granted claim was sent.
    fn majority_at(&self) -> Option<Duration> {
        self.contacts.confirmed_by(self.majority())
    }

    fn usable_until(&self) -> Option<Duration> {
        self.majority_at()
            .map(|at| at + self.setup.quarantine / 2)
            .max(self.inherited_until)
    }

    fn note_fence(&mut self, now: Duration) {
        if self.may_hand_out(now) {
            self.fenced = None;
            self.fence = Fence::NoMajority;
        } else if self.fenced.is_none() {
            self.fenced = Some(now);
        }
    }

    fn interval(&self) -> Duration {
        (self.setup.quarantine / 60).clamp(Duration::from_secs(1), Duration::from_secs(60))
    }

    fn jittered(&mut self, pause: Duration) -> Duration {
        pause.mul_f64(self.rng.random_range(0.8..1.2))
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
