//! The seal of a datagram: encrypted and authenticated from the first one on, and accepted once only.
//!
//! On the wire: version (1 byte, authenticated), nonce (24), then XChaCha20-Poly1305 of sender name, session and
//! counter (postcard) and the payload, then the tag (16).

use std::collections::HashMap;
use std::fmt;

use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305, XNonce};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

use super::Counters;
use super::wire::VERSION;

/// What the seal adds to a payload, without the sender's name: version, nonce, tag, and the longest form of
/// session, counter and the name's length.
pub const OVERHEAD: usize = 1 + NONCE + TAG + 9 + 5 + 2;

const NONCE: usize = 24;
const TAG: usize = 16;
const WINDOW_WORDS: usize = 16;
const WINDOW: u64 = 64 * WINDOW_WORDS as u64;

/// A key of the cluster, made from a secret of any length.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl Key {
    /// The key that belongs to a secret. The secret should have 128 bits of entropy: there is no password
    /// stretching.
    pub fn from_secret(secret: &[u8]) -> Self {
        Self(
            Sha256::new()
                .chain_update(b"heddle gossip seal 1\0")
                .chain_update(secret)
                .finalize()
                .into(),
        )
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Why a datagram was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Sealed with none of our keys, or altered on the way.
    #[error("sealed with a key that is not in `keys`, or altered on the way")]
    WrongKey,
    /// Seen before, or too old to tell.
    #[error("seen before")]
    Replay,
    /// Of a session of this sender that a later one has ended.
    #[error("of a session of `{0}` that has ended")]
    Ended(String),
    /// Another version of the protocol.
    #[error("of a version of the protocol that is not spoken here")]
    Version,
    /// Too short, or not to be understood.
    #[error("not a datagram of this protocol")]
    Garbage,
    /// The sender has this node's own name.
    #[error("sent by a node that has this node's name")]
    SameName,
}

impl Refused {
    /// Counts it.
    pub fn count(&self, counters: &mut Counters) {
        *match self {
            Self::WrongKey => &mut counters.wrong_key,
            Self::Replay | Self::Ended(_) => &mut counters.replay,
            Self::Version => &mut counters.version,
            Self::Garbage => &mut counters.garbage,
            Self::SameName => &mut counters.same_name,
        } += 1;
    }
}

/// An opened datagram.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened {
    /// The name of the node that sealed it.
    pub sender: String,
    /// What it says.
    pub payload: Vec<u8>,
}

/// Seals what this node sends and opens what others sent.
pub struct Seal {
    ciphers: Vec<XChaCha20Poly1305>,
    name: String,
    session: u64,
    counter: u64,
    senders: HashMap<String, Window>,
    rng: StdRng,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal")
            .field("name", &self.name)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

impl Seal {
    /// `session` must be greater than that of every earlier process of this node.
    pub fn new(keys: &[Key], name: String, session: u64, seed: [u8; 32]) -> Self {
        let ciphers = keys
            .iter()
            .map(|key| XChaCha20Poly1305::new(&key.0.into()))
            .collect();
        // The machine draws its choices from the same seed: nonces come from a seed of their own.
        let seed = Sha256::new()
            .chain_update(b"heddle gossip nonces\0")
            .chain_update(seed)
            .finalize();
        let rng = StdRng::from_seed(seed.into());
        Self {
            ciphers,
            name,
            session,
            counter: 0,
            senders: HashMap::new(),
            rng,
        }
    }

    /// The datagram for a payload. Empty, thus refused by everybody, if there is no key.
    pub fn seal(&mut self, payload: &[u8]) -> Vec<u8> {
        let Some(cipher) = self.ciphers.first() else {
            return Vec::new();
        };
        self.counter += 1;
        let mut nonce = [0; NONCE];
        self.rng.fill_bytes(&mut nonce);
        let Ok(mut body) = postcard::to_allocvec(&(&self.name, self.session, self.counter)) else {
            return Vec::new();
        };
        body.extend_from_slice(payload);
        if cipher
            .encrypt_in_place(&XNonce::from(nonce), &[VERSION], &mut body)
            .is_err()
        {
            return Vec::new();
        }
        let mut datagram = Vec::with_capacity(1 + NONCE + body.len());
        datagram.push(VERSION);
        datagram.extend_from_slice(&nonce);
        datagram.extend_from_slice(&body);
        datagram
    }

    /// Opens a datagram once.
    ///
    /// # Errors
    /// [`Refused`] says why not.
    pub fn open(&mut self, datagram: Vec<u8>) -> Result<Opened, Refused> {
        let (&version, rest) = datagram.split_first().ok_or(Refused::Garbage)?;
        if version != VERSION {
            return Err(Refused::Version);
        }
        let (nonce, sealed) = rest.split_first_chunk::<NONCE>().ok_or(Refused::Garbage)?;
        if sealed.len() < TAG {
            return Err(Refused::Garbage);
        }
        let nonce = XNonce::from(*nonce);
        let body = self.ciphers.iter().find_map(|cipher| {
            let mut body = sealed.to_vec();
            cipher
                .decrypt_in_place(&nonce, &[VERSION], &mut body)
                .ok()
                .map(|()| body)
        });
        let body = body.ok_or(Refused::WrongKey)?;
        let ((sender, session, counter), payload) =
            postcard::take_from_bytes::<(&str, u64, u64)>(&body).map_err(|_| Refused::Garbage)?;
        if sender == self.name {
            // Own datagrams may come back; only another process can be newer than this one.
            return Err(if session > self.session {
                Refused::SameName
            } else {
                Refused::Replay
            });
        }
        let window = match self.senders.get_mut(sender) {
            Some(window) => window,
            None => self.senders.entry(sender.to_owned()).or_default(),
        };
        if session < window.session {
            return Err(Refused::Ended(sender.to_owned()));
        }
        if !window.accept(session, counter) {
            return Err(Refused::Replay);
        }
        Ok(Opened {
            sender: sender.to_owned(),
            payload: payload.to_vec(),
        })
    }
}

/// What has been accepted from one sender: the newest session, its highest counter, and which of the last
/// [`WINDOW`] counters have been seen (RFC 6479's ring of words).
#[derive(Default)]
struct Window {
    session: u64,
    highest: u64,
    seen: [u64; WINDOW_WORDS],
}

impl Window {
    fn accept(&mut self, session: u64, counter: u64) -> bool {
        if session < self.session {
            return false;
        }
        if session > self.session {
            *self = Self {
                session,
                ..Self::default()
            };
        }
        // The word of the highest counter is only partly used: one word less is the window.
        if counter == 0 || counter.saturating_add(WINDOW - 64) <= self.highest {
            return false;
        }
        let (word, last) = (counter / 64, self.highest / 64);
        if counter > self.highest {
            for skipped in 1..=(word - last).min(WINDOW_WORDS as u64) {
                self.seen[Self::index(last + skipped)] = 0;
            }
            self.highest = counter;
        }
        let (slot, bit) = (&mut self.seen[Self::index(word)], 1 << (counter % 64));
        let new = *slot & bit == 0;
        *slot |= bit;
        new
    }

    fn index(word: u64) -> usize {
        (word % WINDOW_WORDS as u64) as usize
    }
}

#[cfg(test)]
mod tests;
