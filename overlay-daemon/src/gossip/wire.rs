//! What nodes say to each other: one message a datagram, in postcard.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

use super::records::{BUCKETS, Record};
use super::swim::Identity;

/// Version of the protocol: of the seal and of what is in it. The first byte of every datagram.
pub const VERSION: u8 = 1;

/// The longest payload made: a sealed datagram then fits into 1,280 bytes, the least MTU of IPv6, with a name of up to
/// 100 bytes.
pub const PAYLOAD: usize = 1280 - 40 - 8 - super::seal::OVERHEAD - 100;

/// One message. The order is part of the protocol: postcard numbers the variants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// A message of SWIM, in foca's encoding.
    Swim(Vec<u8>),
    /// To a process: you are suspected. It then contradicts, by raising its incarnation.
    Suspected {
        /// The process.
        identity: Identity,
        /// Its incarnation, as the sender knows it.
        incarnation: u16,
    },
    /// Records that have just changed, passed on by those that they are news to.
    Rumours(Vec<Record>),
    /// The hashes of all that the sender knows, and its own record.
    Digest {
        /// The sender's record.
        own: Box<Record>,
        /// One hash a bucket of records.
        buckets: Buckets,
    },
    /// The answer to a digest, or to an answer: all records of some buckets.
    Records {
        /// Each with whether the sender holds the node to be down.
        records: Vec<(Record, bool)>,
        /// Buckets (bit n for bucket n) of which the sender wants the receiver's records.
        wanted: u64,
        /// More buckets differ than were sent: ask again.
        more: bool,
    },
    /// An owner asks an elector for a slot, or to confirm it. Safe to repeat.
    Claim(ClaimRequest),
    /// The elector's answer to exactly that claim.
    Answer {
        /// What was asked.
        of: ClaimRequest,
        /// Whether the slot is granted to the asker; otherwise it is someone else's here.
        granted: bool,
    },
    /// An owner that did not get a majority gives back what it got.
    Release {
        /// The owner's instance.
        instance: u64,
        /// The slot.
        slot: u32,
        /// The attempt under which it had been granted.
        attempt: u64,
    },
}

/// A claim, as it is sent and as it comes back in the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRequest {
    /// The owner's name.
    pub owner: String,
    /// The owner's instance, see [`super::Stored::instance`].
    pub instance: u64,
    /// The owner's session.
    pub session: u64,
    /// The slot.
    pub slot: u32,
    /// The owner's number for this try.
    pub attempt: u64,
    /// When it was sent, by the owner's monotonic clock of this session, in µs.
    pub sent: u64,
    /// Under which address the owner knows the elector.
    pub elector: SocketAddr,
}

/// 64 hashes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buckets(#[serde(with = "buckets")] pub [u32; BUCKETS]);

/// Fixed width: a hash has no small values that a varint could shorten.
mod buckets {
    use super::BUCKETS;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        buckets: &[u32; BUCKETS],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = buckets.iter().flat_map(|hash| hash.to_be_bytes()).collect();
        to.serialize_bytes(&bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<[u32; BUCKETS], D::Error> {
        let bytes = <&[u8]>::deserialize(from)?;
        let (chunks, rest) = bytes.as_chunks::<4>();
        if chunks.len() != BUCKETS || !rest.is_empty() {
            return Err(D::Error::invalid_length(
                bytes.len(),
                &"64 hashes of 4 bytes",
            ));
        }
        let mut buckets = [0; BUCKETS];
        for (bucket, chunk) in buckets.iter_mut().zip(chunks) {
            *bucket = u32::from_be_bytes(*chunk);
        }
        Ok(buckets)
    }
}

impl Message {
    /// Its bytes.
    ///
    /// # Errors
    /// Postcard's; none is known to be possible for these types.
    pub fn encode(&self) -> postcard::Result<Vec<u8>> {
        postcard::to_allocvec(self)
    }

    /// The message that these bytes begin with. What follows it is what a later version adds, and is passed over.
    ///
    /// # Errors
    /// If they do not begin with a message.
    pub fn decode(bytes: &[u8]) -> postcard::Result<Self> {
        postcard::take_from_bytes(bytes).map(|(message, _)| message)
    }
}
