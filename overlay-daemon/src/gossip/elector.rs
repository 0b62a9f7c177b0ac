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

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn claim(owner: &str, slot: u32, attempt: u64) -> ClaimRequest {
        ClaimRequest {
            owner: owner.into(),
            instance: 1,
            session: 1,
            slot,
            attempt,
            sent: 0,
            elector: ([10, 0, 0, 1], 1).into(),
        }
    }

    fn elector(claims: &[ClaimRequest]) -> Elector {
        let mut elector = Elector::new(Vec::new(), DAY, Duration::ZERO);
        for one in claims {
            assert_eq!(elector.claim(one, Duration::ZERO), Verdict::Granted);
        }
        elector
    }

    #[test]
    fn a_slot_has_one_owner_until_the_quarantine_is_over() {
        let mut elector = elector(&[claim("a", 1, 1)]);
        assert_eq!(elector.claim(&claim("a", 1, 1), DAY), Verdict::Confirmed);
        assert_eq!(elector.claim(&claim("b", 1, 1), 2 * DAY), Verdict::Denied);
        let written: Vec<Grant> = elector.grants().cloned().collect();
        let over = 2 * DAY + Duration::from_micros(1);
        assert_eq!(elector.claim(&claim("b", 1, 1), over), Verdict::Granted);
        assert_eq!(elector.claim(&claim("a", 1, 1), over), Verdict::Denied);
        // After a restart nothing is known of the time before it.
        let mut restarted = Elector::new(written, DAY, Duration::ZERO);
        assert_eq!(restarted.claim(&claim("b", 1, 1), DAY), Verdict::Denied);
    }

    #[test]
    fn what_comes_late_or_twice_does_no_harm() {
        let mut elector = elector(&[claim("a", 1, 5)]);
        assert!(!elector.release("a", 1, 1, 4));
        assert!(!elector.release("b", 1, 1, 5));
        assert!(!elector.release("a", 2, 1, 5));
        assert_eq!(elector.claim(&claim("a", 2, 4), DAY), Verdict::Stale);
        assert_eq!(elector.claim(&claim("a", 1, 4), DAY), Verdict::Stale);
        let late = ClaimRequest {
            session: 0,
            ..claim("a", 1, 5)
        };
        assert_eq!(elector.claim(&late, DAY), Verdict::Stale);
        assert_eq!(elector.claim(&claim("b", 1, 1), DAY), Verdict::Denied);
        assert!(elector.release("a", 1, 1, 5));
        assert_eq!(elector.claim(&claim("b", 1, 1), DAY), Verdict::Granted);
    }

    #[test]
    fn a_newer_attempt_gives_up_the_older_slot() {
        let mut elector = elector(&[claim("a", 1, 1), claim("a", 2, 2)]);
        assert_eq!(elector.claim(&claim("b", 1, 1), DAY), Verdict::Granted);
        assert_eq!(elector.grants().count(), 2);
    }

    #[test]
    fn a_disk_of_the_same_name_is_another_owner() {
        let mut elector = elector(&[claim("a", 1, 9)]);
        let new = ClaimRequest {
            instance: 2,
            ..claim("a", 1, 1)
        };
        assert_eq!(elector.claim(&new, DAY), Verdict::Denied);
        assert_eq!(
            elector.claim(&ClaimRequest { slot: 2, ..new }, DAY),
            Verdict::Granted
        );
        assert_eq!(elector.grants().count(), 2);
    }

    #[test]
    fn forgetting_spares_later_sessions() {
        let mut elector = elector(&[
            claim("a", 1, 1),
            ClaimRequest {
                session: 7,
                ..claim("b", 2, 1)
            },
        ]);
        assert!(elector.forget("a", 1));
        assert!(!elector.forget("b", 6));
        assert!(elector.forget("b", 7));
    }
}
