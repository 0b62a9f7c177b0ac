//! An elector: grants each slot to one owner, and remembers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::wire::ClaimRequest;

/// A slot given to an owner by this elector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The slot.
    pub slot: u32,
    /// The owner's name.
    pub owner: String,
    /// The owner's instance.
    pub instance: u64,
    /// The owner's latest session that has asked for it.
    pub session: u64,
    /// The attempt under which the owner asked.
    pub attempt: u64,
}

/// What becomes of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The slot is the asker's, and was before: answer.
    Confirmed,
    /// The slot is the asker's from now on: write the grants down, then answer.
    Granted,
    /// The slot is someone else's: answer so.
    Denied,
    /// The claim is older than what is known of the owner: no answer.
    Stale,
}

/// The grants, each with when the owner was last heard of by this process's monotonic clock.
#[derive(Debug)]
pub struct Elector {
    grants: BTreeMap<u32, (Grant, Duration)>,
    quarantine: Duration,
}

impl Elector {
    /// Begins with what was written down. The owners count as heard of now.
    pub fn new(stored: Vec<Grant>, quarantine: Duration, now: Duration) -> Self {
        let grants = stored
            .into_iter()
            .map(|grant| (grant.slot, (grant, now)))
            .collect();
        Self { grants, quarantine }
    }

    /// All grants, to be written down.
    pub fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.grants.values().map(|(grant, _)| grant)
    }

    /// Decides on a claim, first or repeated.
    pub fn claim(&mut self, claim: &ClaimRequest, now: Duration) -> Verdict {
        let own = self
            .grants
            .values()
            .find(|(grant, _)| is_owner(grant, claim))
            .map(|(grant, _)| grant);
        if own.is_some_and(|own| own.attempt > claim.attempt || own.session > claim.session) {
            return Verdict::Stale;
        }
        if let Some((grant, heard)) = self.grants.get_mut(&claim.slot) {
            if is_owner(grant, claim)
                && grant.attempt == claim.attempt
                && grant.session == claim.session
            {
                *heard = now;
                return Verdict::Confirmed;
            }
            if !is_owner(grant, claim) && now.saturating_sub(*heard) <= self.quarantine {
                return Verdict::Denied;
            }
        }
        // An owner begins a new attempt only when it has given up the one before: that slot is free.
        self.grants.retain(|_, (grant, _)| !is_owner(grant, claim));
        let grant = Grant {
            slot: claim.slot,
            owner: claim.owner.clone(),
            instance: claim.instance,
            session: claim.session,
            attempt: claim.attempt,
        };
        self.grants.insert(claim.slot, (grant, now));
        Verdict::Granted
    }

    /// The owner gives back what it was granted under exactly this attempt. Says whether anything changed.
    pub fn release(&mut self, owner: &str, instance: u64, slot: u32, attempt: u64) -> bool {
        let before = self.grants.len();
        self.grants.retain(|_, (grant, _)| {
            grant.slot != slot
                || grant.owner != owner
                || grant.instance != instance
                || grant.attempt != attempt
        });
        self.grants.len() != before
    }

    /// Drops what was granted to the sessions up to this one of a node that is gone for good.
    pub fn forget(&mut self, owner: &str, session: u64) -> bool {
        let before = self.grants.len();
        self.grants
            .retain(|_, (grant, _)| grant.owner != owner || grant.session > session);
        self.grants.len() != before
    }
}

fn is_owner(grant: &Grant, claim: &ClaimRequest) -> bool {
    grant.owner == claim.owner && grant.instance == claim.instance
}
