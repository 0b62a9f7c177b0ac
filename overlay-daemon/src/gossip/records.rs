//! The records: what every node says of itself, spread by rumour and kept equal by anti-entropy.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::wire::{Buckets, Message, PAYLOAD};
use crate::Node;

/// Into how many buckets the records are hashed.
pub const BUCKETS: usize = 64;

/// At most this many datagrams answer one digest.
const DATAGRAMS: usize = 12;

/// What a node says of itself, with what orders two versions of it. Only the node itself makes new versions, except
/// for the one that says that it is forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What the overlay needs.
    pub node: Node,
    /// Where it takes gossip.
    pub address: SocketAddr,
    /// See [`super::Stored::instance`].
    pub instance: u64,
    /// The session that made this version; the greater is the newer one.
    pub session: u64,
    /// Counts the versions within the session.
    pub version: u32,
    /// Its SWIM identity's generation.
    pub generation: u64,
    /// The slot that it owns.
    pub slot: Option<u32>,
    /// Gone for good, with every session up to this one.
    pub forgotten: bool,
}

impl Record {
    /// What orders two versions.
    pub fn stamp(&self) -> (u64, u32) {
        (self.session, self.version)
    }

    /// The version that says that the node is gone for good.
    pub fn tombstone(&self) -> Self {
        Self {
            version: u32::MAX,
            forgotten: true,
            slot: None,
            ..self.clone()
        }
    }

    fn hash(&self) -> u32 {
        let mut hash = Fnv::new();
        hash.write(self.node.name.as_bytes());
        hash.write(&self.session.to_be_bytes());
        hash.write(&self.version.to_be_bytes());
        let hash = hash.finish();
        (hash ^ (hash >> 32)) as u32
    }

    fn bucket(&self) -> usize {
        (name_hash(&self.node.name) % BUCKETS as u64) as usize
    }
}

/// A name as a number, the same at every node.
pub fn name_hash(name: &str) -> u64 {
    let mut hash = Fnv::new();
    hash.write(name.as_bytes());
    hash.finish()
}

/// FNV-1a with a final mix. Only members of the cluster can choose its input.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ (hash >> 33)
    }
}

#[derive(Debug)]
struct Rumour {
    name: String,
    left: u32,
}

/// All records known to be current, this node's own among them.
#[derive(Debug)]
pub struct Records {
    own: Record,
    others: BTreeMap<String, Record>,
    buckets: [u32; BUCKETS],
    rumours: Vec<Rumour>,
}

impl Records {
    /// Begins with the own record only.
    pub fn new(own: Record) -> Self {
        let mut buckets = [0; BUCKETS];
        buckets[own.bucket()] ^= own.hash();
        let rumours = vec![Rumour {
            name: own.node.name.clone(),
            left: 1,
        }];
        Self {
            own,
            others: BTreeMap::new(),
            buckets,
            rumours,
        }
    }

    /// This node's.
    pub fn own(&self) -> &Record {
        &self.own
    }

    /// The record of that name.
    pub fn get(&self, name: &str) -> Option<&Record> {
        if name == self.own.node.name {
            Some(&self.own)
        } else {
            self.others.get(name)
        }
    }

    /// All but this node's.
    pub fn others(&self) -> impl Iterator<Item = &Record> {
        self.others.values()
    }

    /// Changes the own record, if the change is one, and makes it news.
    pub fn change_own(&mut self, change: impl FnOnce(&mut Record)) -> bool {
        let mut new = self.own.clone();
        change(&mut new);
        if new == self.own {
            return false;
        }
        if new.session == self.own.session {
            new.version = new.version.saturating_add(1);
        }
        let bucket = new.bucket();
        self.buckets[bucket] ^= self.own.hash() ^ new.hash();
        self.own = new;
        self.spread(self.own.node.name.clone());
        true
    }

    /// Takes in another node's record if it is newer than what is known, and says whether it was.
    pub fn learn(&mut self, record: Record) -> bool {
        let old = self.others.get(&record.node.name);
        if record.node.name == self.own.node.name
            || old.is_some_and(|old| old.stamp() >= record.stamp())
        {
            return false;
        }
        self.buckets[record.bucket()] ^= record.hash() ^ old.map_or(0, Record::hash);
        self.others.insert(record.node.name.clone(), record);
        true
    }

    /// Passes the record of that name on from now on.
    pub fn spread(&mut self, name: String) {
        let left = usize::BITS - self.others.len().leading_zeros() + 3;
        self.rumours.retain(|rumour| rumour.name != name);
        self.rumours.push(Rumour { name, left });
    }

    /// Whether there is news to pass on.
    pub fn has_rumours(&self) -> bool {
        !self.rumours.is_empty()
    }

    /// One datagram of news for each of `receivers` members, the least told first.
    pub fn rumours(&mut self, receivers: u32) -> Option<Message> {
        self.rumours
            .sort_by_key(|rumour| std::cmp::Reverse(rumour.left));
        let (mut records, mut room) = (Vec::new(), PAYLOAD - 8);
        for rumour in &mut self.rumours {
            let own = &self.own;
            let record = if rumour.name == own.node.name {
                Some(own)
            } else {
                self.others.get(&rumour.name)
            };
            let Some(record) = record else { continue };
            let size = size(record);
            if size > room {
                break;
            }
            room -= size;
            rumour.left = rumour.left.saturating_sub(receivers);
            records.push(record.clone());
        }
        self.rumours.retain(|rumour| rumour.left > 0);
        (!records.is_empty()).then_some(Message::Rumours(records))
    }

    /// What this node knows, in 64 hashes, with its own record.
    pub fn digest(&self) -> Message {
        Message::Digest {
            own: Box::new(self.own.clone()),
            buckets: Buckets(self.buckets),
        }
    }

    /// The buckets (bit n for bucket n) that differ from someone else's.
    pub fn differing(&self, theirs: &Buckets) -> u64 {
        self.buckets
            .iter()
            .zip(theirs.0)
            .enumerate()
            .filter(|(_, (ours, theirs))| **ours != *theirs)
            .fold(0, |mask, (bucket, _)| mask | (1 << bucket))
    }

    /// The records of these buckets in a bounded number of datagrams, and, if `ask`, the wish for the receiver's.
    /// Begins at a random bucket, so that repeated answers get through all of them.
    pub fn answer(
        &self,
        mask: u64,
        ask: bool,
        down: impl Fn(&str) -> bool,
        rng: &mut impl Rng,
    ) -> Vec<Message> {
        if mask == 0 {
            return Vec::new();
        }
        let mut by_bucket: Vec<Vec<&Record>> = vec![Vec::new(); BUCKETS];
        for record in std::iter::once(&self.own).chain(self.others.values()) {
            by_bucket[record.bucket()].push(record);
        }
        let first = rng.random_range(0..BUCKETS);
        let buckets = (first..first + BUCKETS)
            .map(|n| n % BUCKETS)
            .filter(|bucket| mask & (1 << bucket) != 0);
        let (mut datagrams, mut room, mut wanted, mut more) =
            (vec![Vec::new()], PAYLOAD - 16, 0, false);
        'all: for bucket in buckets {
            for record in &by_bucket[bucket] {
                let size = size(record) + 1;
                if size > room {
                    if datagrams.len() == DATAGRAMS {
                        more = true;
                        break 'all;
                    }
                    datagrams.push(Vec::new());
                    room = PAYLOAD - 16;
                }
                room = room.saturating_sub(size);
                if let Some(datagram) = datagrams.last_mut() {
                    datagram.push(((*record).clone(), down(&record.node.name)));
                }
            }
            wanted |= 1 << bucket;
        }
        let last = datagrams.len() - 1;
        let wanted = if ask { wanted } else { 0 };
        let message = |(n, records)| Message::Records {
            records,
            wanted: if n == last { wanted } else { 0 },
            more: more && n == last,
        };
        datagrams.into_iter().enumerate().map(message).collect()
    }
}

fn size(record: &Record) -> usize {
    postcard::to_allocvec(record).map_or(PAYLOAD, |bytes| bytes.len())
}
