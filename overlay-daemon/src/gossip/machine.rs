//! The machine without its seal: puts members, records, grants and claims together.

mod company;
mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use rand::rngs::{SmallRng, StdRng};
use rand::{Rng, SeedableRng};

use super::claims::{ClaimState, Inherited, Owner, Setup};
use super::elector::{Elector, Verdict};
use super::records::{Record, Records, name_hash};
use super::seal::Refused;
use super::swim::{Identity, Swim};
use super::wire::Message;
use super::{Input, Liveness, Member, Output, Settings, Stored, Time};
use crate::Node;
use view::{age, taken};

/// Between two rounds of rumours.
const RUMOURS: Duration = Duration::from_millis(200);
/// See the module.
#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    instance: u64,
    session: u64,
    swim: Swim,
    records: Records,
    /// Records from before the restart that nobody has repeated yet.
    remembered: BTreeMap<String, Record>,
    elector: Elector,
    owner: Owner,
    rng: SmallRng,
    members: BTreeMap<String, Member>,
    /// The names of those whose entry in `members` is to be made anew.
    touched: BTreeSet<String>,
    /// SWIM's number for a node, and its name.
    names: HashMap<u64, String>,
    next_round: Duration,
    next_rumours: Duration,
    next_company: Duration,
    next_contradiction: Duration,
    lonely_tries: u32,
    cache_due: Option<Duration>,
    claim: ClaimState,
    left: bool,
    same_name: Option<SocketAddr>,
    garbage: u64,
    /// Messages from this node to itself.
    inner: VecDeque<Message>,
    outputs: Vec<Output>,
    changed: bool,
}

impl Machine {
    /// Begins a session from what the last one left.
    pub fn new(settings: Settings, stored: Option<Stored>, now: Time) -> (Self, Vec<Output>) {
        let mut rng = StdRng::from_seed(settings.seed);
        let mut stored = stored.unwrap_or_else(|| Stored {
            instance: rng.next_u64(),
            ..Stored::default()
        });
        // The second in between leaves room for the generations that a session adds.
        let session = (now.wall.as_micros() as u64).max(stored.session.saturating_add(1_000_000));
        let address = gossip_address(&settings.endpoints, settings.listen_port);
        let own = Record {
            node: Node {
                name: settings.name.clone(),
                endpoints: settings.endpoints.clone(),
                vtep_mac: settings.vtep_mac,
                pod_cidrs: Vec::new(),
            },
            address,
            instance: stored.instance,
            session,
            version: 0,
            generation: session,
            slot: stored.claim.map(|claim| claim.slot),
            forgotten: false,
        };
        let inherited = stored.claim.map(|claim| Inherited {
            claim,
            age: age(&stored, &settings, now),
        });
        let setup = Setup {
            name: settings.name.clone(),
            instance: stored.instance,
            session,
            electors: settings.peers.clone(),
            slots: settings.slots,
            quarantine: settings.quarantine,
        };
        let owner = Owner::new(
            setup,
            stored.last_attempt,
            inherited,
            rng.next_u64(),
            now.monotonic,
        );
        let elector = Elector::new(
            std::mem::take(&mut stored.grants),
            settings.quarantine,
            now.monotonic,
        );
        let identity = Identity {
            generation: session,
            id: name_hash(&settings.name),
            addr: address,
        };
        let remembered: BTreeMap<String, Record> = stored
            .known
            .into_iter()
            .map(|record| (record.node.name.clone(), record))
            .collect();
        let touched: BTreeSet<String> = BTreeMap::keys(&remembered)
            .cloned()
            .chain([settings.name.clone()])
            .collect();
        let mut machine = Self {
            instance: stored.instance,
            session,
            swim: Swim::new(identity, StdRng::from_rng(&mut rng)),
            records: Records::new(own),
            remembered,
            elector,
            claim: owner.state(now.monotonic),
            owner,
            rng: SmallRng::from_rng(&mut rng),
            members: BTreeMap::new(),
            touched,
            names: HashMap::new(),
            next_round: now.monotonic + Duration::from_secs(1),
            next_rumours: now.monotonic,
            next_company: now.monotonic,
            next_contradiction: now.monotonic,
            lonely_tries: 0,
            cache_due: None,
            left: false,
            same_name: None,
            garbage: 0,
            inner: VecDeque::new(),
            outputs: Vec::new(),
            changed: true,
            settings,
        };
        // The session's number must be written down before anybody hears of it.
        machine.store(now);
        machine.advance(now);
        let outputs = machine.finish(now);
        (machine, outputs)
    }

    /// This process's number; see [`Stored::session`].
    pub fn session(&self) -> u64 {
        self.session
    }

    /// What this node says of itself.
    pub fn record(&self) -> &Record {
        self.records.own()
    }

    /// See [`super::Gossip::handle`]; datagrams are taken as unsealed, from a sender named by its record's address.
    pub fn handle(&mut self, input: Input, now: Time) -> Vec<Output> {
        match input {
            Input::Datagram { .. } => self.garbage += 1,
            Input::Tick => {}
            Input::SetEndpoints(endpoints) => self.set_endpoints(endpoints, now),
            Input::SetPodCidrs(cidrs) => {
                self.change_own(|own| own.node.pod_cidrs = cidrs);
            }
            Input::Forget(name) => self.forget(&name, now),
            Input::Leave => {
                let sends = self.swim.leave(now.monotonic);
                self.send_swim(sends);
                self.left = true;
            }
        }
        self.advance(now);
        self.finish(now)
    }

    /// Takes the payload of an opened datagram.
    pub fn receive(
        &mut self,
        from: SocketAddr,
        sender: &str,
        payload: &[u8],
        now: Time,
    ) -> Vec<Output> {
        match Message::decode(payload) {
            Ok(message) if !self.left => self.message(from, sender, message, now),
            Ok(_) => {}
            Err(_) => self.garbage += 1,
        }
        self.advance(now);
        self.finish(now)
    }

    /// A datagram was genuine, but refused: two nodes may have one name. Tells the one that cannot know.
    pub fn refused(&mut self, from: SocketAddr, refused: &Refused, now: Time) -> Vec<Output> {
        match refused {
            Refused::SameName => {
                self.changed |= self.same_name.replace(from) != Some(from);
            }
            Refused::Ended(name) if self.next_contradiction <= now.monotonic => {
                self.next_contradiction = now.monotonic + Duration::from_secs(1);
                if let Some(record) = self.records.get(name) {
                    let records = vec![(record.clone(), false)];
                    self.send(
                        from,
                        &Message::Records {
                            records,
                            wanted: 0,
                            more: false,
                        },
                    );
                }
            }
            _ => {}
        }
        self.finish(now)
    }

    /// See [`super::Gossip::next_tick`].
    pub fn next_tick(&self) -> Duration {
        if self.left {
            return Duration::MAX;
        }
        let rumours = if self.records.has_rumours() {
            self.next_rumours
        } else {
            Duration::MAX
        };
        [
            self.next_round,
            rumours,
            self.next_company,
            self.owner.next_tick(),
            self.cache_due.unwrap_or(Duration::MAX),
            self.swim.next_tick().unwrap_or(Duration::MAX),
        ]
        .into_iter()
        .fold(Duration::MAX, Duration::min)
    }

    /// See [`super::Gossip::nodes`].
    pub fn nodes(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// See [`super::Gossip::claim`].
    pub fn claim(&self) -> ClaimState {
        self.claim
    }

    /// See [`super::Gossip::may_hand_out`].
    pub fn may_hand_out(&self, now: Time) -> bool {
        self.owner.may_hand_out(now.monotonic)
    }

    /// See [`super::Gossip::same_name`].
    pub fn same_name(&self) -> Option<SocketAddr> {
        self.same_name
    }

    /// Messages that could not be understood.
    pub fn garbage(&self) -> u64 {
        self.garbage
    }

    fn message(&mut self, from: SocketAddr, sender: &str, message: Message, now: Time) {
        match message {
            Message::Swim(body) => match self.swim.receive(&body, now.monotonic) {
                Some(sends) => self.send_swim(sends),
                None => self.garbage += 1,
            },
            Message::Suspected {
                identity,
                incarnation,
            } => {
                let sends = self.swim.suspected(identity, incarnation, now.monotonic);
                self.send_swim(sends);
            }
            Message::Rumours(records) => {
                for record in records {
                    let name = record.node.name.clone();
                    if self.learn(record, false, now) {
                        self.records.spread(name);
                    }
                }
            }
            Message::Digest { own, buckets } => {
                self.learn(*own, false, now);
                let differing = self.records.differing(&buckets);
                self.answer(from, differing, true);
            }
            Message::Records {
                records,
                wanted,
                more,
            } => {
                let mut news = false;
                for (record, down) in records {
                    news |= self.learn(record, down, now);
                }
                self.answer(from, wanted, false);
                if more && news {
                    self.send(from, &self.records.digest());
                }
            }
            Message::Claim(claim) => {
                if sender != claim.owner || claim.slot >= self.settings.slots {
                    self.garbage += 1;
                } else if self.is_elector() {
                    let verdict = self.elector.claim(&claim, now.monotonic);
                    if verdict == Verdict::Granted {
                        self.store(now);
                    }
                    if verdict != Verdict::Stale {
                        self.send(
                            from,
                            &Message::Answer {
                                of: claim,
                                granted: verdict != Verdict::Denied,
                            },
                        );
                    }
                }
            }
            Message::Answer { of, granted } => {
                let sends = self.owner.answered(sender, &of, granted, now.monotonic);
                self.send_claims(sends, now);
            }
            Message::Release {
                instance,
                slot,
                attempt,
            } => {
                if self.elector.release(sender, instance, slot, attempt) {
                    self.store(now);
                }
            }
        }
    }

    /// Does what is due, until there is nothing left to do.
    fn advance(&mut self, now: Time) {
        if self.left {
            return;
        }
        let at = now.monotonic;
        let sends = self.swim.tick(at);
        self.send_swim(sends);
        if self.next_round <= at {
            self.round(now);
        }
        if self.records.has_rumours() && self.next_rumours <= at {
            self.next_rumours = at + RUMOURS;
            self.rumours();
        }
        if self.next_company <= at {
            self.seek_company(now);
        }
        loop {
            let (records, remembered, swim) = (&self.records, &self.remembered, &self.swim);
            let sends = self.owner.tick(|| taken(records, remembered, swim), at);
            self.send_claims(sends, now);
            let Some(message) = self.inner.pop_front() else {
                break;
            };
            let own = self.records.own();
            let (address, name) = (own.address, own.node.name.clone());
            self.message(address, &name, message, now);
        }
        if self.cache_due.is_some_and(|due| due <= at) {
            self.store(now);
        }
        let generation = self.swim.identity().generation;
        let slot = self.owner.claim().map(|claim| claim.slot);
        self.change_own(|own| {
            if own.slot != slot {
                // The CIDRs were those of another slot; the driver will give the new ones.
                own.node.pod_cidrs.clear();
            }
            (own.generation, own.slot) = (generation, slot);
        });
        let claim = self.owner.state(at);
        self.changed |= claim != self.claim;
        self.claim = claim;
    }

    fn is_elector(&self) -> bool {
        self.settings.peers.iter().any(|peer| self.is_self(*peer))
    }

    fn is_self(&self, address: SocketAddr) -> bool {
        address.port() == self.settings.listen_port
            && self.settings.endpoints.contains(&address.ip())
    }

    fn answer(&mut self, to: SocketAddr, mask: u64, ask: bool) {
        let swim = &self.swim;
        let down = |name: &str| {
            swim.state(name_hash(name))
                .is_some_and(|(state, _)| state == Liveness::Down)
        };
        for message in self.records.answer(mask, ask, down, &mut self.rng) {
            self.send(to, &message);
        }
    }

    fn send(&mut self, to: SocketAddr, message: &Message) {
        if self.is_self(to) {
            self.inner.push_back(message.clone());
        } else if let Ok(bytes) = message.encode() {
            let is_promise = matches!(
                message,
                Message::Claim(_) | Message::Answer { .. } | Message::Release { .. }
            );
            self.outputs.push(Output::Send {
                to,
                bytes,
                is_promise,
            });
        }
    }

    fn send_swim(&mut self, sends: super::swim::Sends) {
        for (to, body) in sends {
            self.send(to, &Message::Swim(body));
        }
    }

    /// What the owner decided is written down before anybody hears of it.
    fn send_claims(&mut self, sends: super::claims::Sends, now: Time) {
        if self.owner.take_dirty() {
            self.store(now);
        }
        for (to, message) in sends {
            self.send(to, &message);
        }
    }

    fn store(&mut self, now: Time) {
        self.cache_due = None;
        let wall = now.wall.as_micros() as i64 - now.monotonic.as_micros() as i64;
        let confirmed = self.owner.confirmed_at().map(|at| wall + at);
        let known = self
            .records
            .others()
            .chain(self.remembered.values())
            .cloned()
            .collect();
        self.outputs.push(Output::Store(Box::new(Stored {
            instance: self.instance,
            session: self.session,
            claim: self.owner.claim(),
            last_attempt: self.owner.last_attempt(),
            last_majority_wall: confirmed.and_then(|at| u64::try_from(at / 1000).ok()),
            electors: self.settings.peers.clone(),
            grants: self.elector.grants().cloned().collect(),
            known,
        })));
    }

    fn finish(&mut self, now: Time) -> Vec<Output> {
        self.changed |= !self.touched.is_empty();
        for name in std::mem::take(&mut self.touched) {
            match self.member(&name, now) {
                Some(member) => self.members.insert(name, member),
                None => self.members.remove(&name),
            };
        }
        if std::mem::take(&mut self.changed) {
            self.outputs.push(Output::Changed);
        }
        std::mem::take(&mut self.outputs)
    }
}

/// Where a node with these addresses takes gossip; unspecified if it has none.
fn gossip_address(endpoints: &[IpAddr], port: u16) -> SocketAddr {
    SocketAddr::new(
        endpoints
            .first()
            .copied()
            .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        port,
    )
}
