//! Keeping company: who is there, what they say of themselves, and finding the others again.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::RngExt;

use super::{Machine, gossip_address};
use crate::gossip::Time;
use crate::gossip::records::{Record, name_hash};
use crate::gossip::swim::Identity;
use crate::gossip::wire::Message;

/// Between two digests, and between two looks at who is there.
const ROUND: Duration = Duration::from_secs(1);
/// How many members a rumour goes to in a round.
const FANOUT: u32 = 3;
/// A change of the cache of records alone is written down no more often than this.
const CACHE: Duration = Duration::from_secs(10);
/// A node known from before the restart counts as down when it has not been heard of for so long.
const REMEMBER: Duration = Duration::from_secs(10);
/// The longest pause between two attempts to find company.
const ALONE: Duration = Duration::from_secs(10);

impl Machine {
    /// Once a second: who is there, and one digest to one of them.
    pub(super) fn round(&mut self, now: Time) {
        self.next_round = now.monotonic + ROUND.mul_f64(self.rng.random_range(0.9..1.1));
        self.refresh(now);
        if now.monotonic > REMEMBER && !self.remembered.is_empty() {
            // Nobody speaks of them: they are down, but not forgotten.
            for (name, record) in std::mem::take(&mut self.remembered) {
                self.records.learn(record);
                self.names.insert(name_hash(&name), name.clone());
                self.touched.insert(name);
            }
        }
        let suspects = self.swim.suspects();
        if !suspects.is_empty() {
            let (identity, incarnation) = suspects[self.rng.random_range(0..suspects.len())];
            let message = Message::Suspected {
                identity,
                incarnation,
            };
            self.send(identity.addr, &message);
        }
        let active = self.swim.active();
        if !active.is_empty() {
            let to = active[self.rng.random_range(0..active.len())];
            self.send(to, &self.records.digest());
        }
    }

    pub(super) fn rumours(&mut self) {
        if self.swim.active().is_empty() {
            return;
        }
        let Some(news) = self.records.rumours(FANOUT) else {
            return;
        };
        for _ in 0..FANOUT {
            let active = self.swim.active();
            let to = active[self.rng.random_range(0..active.len())];
            self.send(to, &news);
        }
    }

    /// Turns to electors that are not there, at once while alone, and now and then afterwards.
    pub(super) fn seek_company(&mut self, now: Time) {
        let alone = self.swim.active().is_empty();
        self.lonely_tries = if alone { self.lonely_tries + 1 } else { 0 };
        let pause = if alone {
            Duration::from_millis(500) * (1 << self.lonely_tries.min(5))
        } else {
            ALONE
        };
        self.next_company =
            now.monotonic + pause.min(ALONE).mul_f64(self.rng.random_range(0.8..1.2));
        let own = self.records.own().address;
        let mut absent: Vec<SocketAddr> = self.settings.peers.clone();
        absent.retain(|peer| *peer != own && !self.swim.active().contains(peer));
        if alone {
            // The electors may be away, or all of them have been replaced.
            let known = self.records.others().chain(self.remembered.values());
            let known: Vec<SocketAddr> = known
                .filter(|known| !known.forgotten)
                .map(|known| known.address)
                .collect();
            for _ in 0..known.len().min(2) {
                absent.push(known[self.rng.random_range(0..known.len())]);
            }
        } else if !absent.is_empty() {
            absent = vec![absent[self.rng.random_range(0..absent.len())]];
        }
        for peer in absent {
            self.send(peer, &self.records.digest());
            let known = self
                .records
                .others()
                .find(|record| record.address == peer && !record.forgotten);
            if let Some(id) = known.map(|record| name_hash(&record.node.name)) {
                let sends = self.swim.announce(id, now.monotonic);
                self.send_swim(sends);
            }
        }
    }

    /// Takes in a record; says whether it was news.
    pub(super) fn learn(&mut self, record: Record, down: bool, now: Time) -> bool {
        if record.node.name == self.settings.name {
            return self.learn_of_self(&record, now);
        }
        self.remembered.remove(&record.node.name);
        let (name, forgotten, session) =
            (record.node.name.clone(), record.forgotten, record.session);
        let id = name_hash(&name);
        let identity = Identity {
            generation: record.generation,
            id,
            addr: record.address,
        };
        let absent = down || forgotten;
        let news = self.records.learn(record);
        if news {
            self.names.insert(id, name.clone());
            self.touched.insert(name.clone());
            self.cache_due.get_or_insert(now.monotonic + CACHE);
            if forgotten && self.elector.forget(&name, session) {
                self.store(now);
            }
            let sends = self.swim.learn(identity, absent, now.monotonic);
            self.send_swim(sends);
            self.swim_news(now);
        }
        news
    }

    /// The first member must be known at once, not with the next round.
    fn swim_news(&mut self, now: Time) {
        if self.swim.active().is_empty() {
            self.refresh(now);
        }
    }

    fn refresh(&mut self, now: Time) {
        for id in self.swim.refresh(now.monotonic) {
            self.touched.extend(self.names.get(&id).cloned());
        }
    }

    pub(super) fn change_own(&mut self, change: impl FnOnce(&mut Record)) {
        if self.records.change_own(change) {
            self.touched.insert(self.settings.name.clone());
        }
    }

    /// Others have a record of this node that this process did not make.
    fn learn_of_self(&mut self, record: &Record, now: Time) -> bool {
        if record.stamp() <= self.records.own().stamp() {
            return false;
        }
        let mine = record.instance == self.instance;
        if !mine && !record.forgotten {
            self.changed |= self.same_name.replace(record.address) != Some(record.address);
            return false;
        }
        // Forgotten while alive, or an older state of this disk was put back: begin anew.
        let session = record.session.saturating_add(1);
        self.session = session;
        self.owner.forgotten(session, now.monotonic);
        self.change_own(|own| (own.session, own.version) = (session, 0));
        self.store(now);
        false
    }

    pub(super) fn forget(&mut self, name: &str, now: Time) {
        let record = self.records.get(name).or_else(|| self.remembered.get(name));
        if name == self.settings.name {
            return;
        }
        if let Some(tombstone) = record.map(Record::tombstone)
            && self.learn(tombstone, true, now)
        {
            self.records.spread(name.to_owned());
        }
    }

    pub(super) fn set_endpoints(&mut self, endpoints: Vec<IpAddr>, now: Time) {
        let address = gossip_address(&endpoints, self.settings.listen_port);
        self.settings.endpoints.clone_from(&endpoints);
        let old = self.swim.identity();
        if old.addr != address {
            let new = Identity {
                addr: address,
                generation: old.generation.saturating_add(1),
                ..old
            };
            let sends = self.swim.change_identity(new, now.monotonic);
            self.send_swim(sends);
            self.next_company = now.monotonic;
        }
        self.change_own(|own| (own.node.endpoints, own.address) = (endpoints, address));
    }
}
