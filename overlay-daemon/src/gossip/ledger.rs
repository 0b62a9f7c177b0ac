//! What of the machine's state is on the disk, and what may therefore be said and done: the driver's side of
//! [`super::Output::Store`].

use super::{Claim, Stored};

/// The state that is to be written down, and the claim that is.
#[derive(Debug, Default)]
pub struct Ledger {
    unwritten: Option<Box<Stored>>,
    /// The claim that the machine goes by.
    claim: Option<Claim>,
    /// The claim on the disk.
    written: Option<Claim>,
}

impl Ledger {
    /// Begins with what was read from the disk.
    pub fn new(stored: Option<&Stored>) -> Self {
        let claim = stored.and_then(|stored| stored.claim);
        Self {
            unwritten: None,
            claim,
            written: claim,
        }
    }

    /// This is to be written down now, and nothing older any more.
    pub fn note(&mut self, stored: Box<Stored>) {
        self.claim = stored.claim;
        self.unwritten = Some(stored);
    }

    /// Whether anything is to be written.
    pub fn is_written(&self) -> bool {
        self.unwritten.is_none()
    }

    /// Writes what is to be written. What cannot be is kept, and the next call tries again.
    ///
    /// # Errors
    /// Those of `write`.
    pub fn write<E>(&mut self, write: impl FnOnce(&Stored) -> Result<(), E>) -> Result<(), E> {
        let Some(stored) = &self.unwritten else {
            return Ok(());
        };
        write(stored)?;
        self.written = stored.claim;
        self.unwritten = None;
        Ok(())
    }

    /// Whether a datagram may be sent: one that promises what has to be on the disk waits for that, and is lost as
    /// datagrams are.
    pub fn may_send(&self, is_promise: bool) -> bool {
        !is_promise || self.is_written()
    }

    /// Whether the claim that the machine goes by would outlive this process.
    pub fn has_claim(&self) -> bool {
        self.claim.is_some() && self.claim == self.written
    }
}
