//! How a claim can stand.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A slot that is owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The slot.
    pub slot: u32,
    /// The attempt under which it was granted.
    pub attempt: u64,
}

/// How it stands with this node's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimState {
    /// None yet.
    Searching {
        /// The slot that the electors are being asked for.
        slot: Option<u32>,
        /// How many slots have been tried in vain since the last one held.
        tried: u32,
    },
    /// This node's, and it may hand out addresses.
    Held {
        /// The slot.
        slot: u32,
    },
    /// This node's for all it knows, but it must not hand out addresses until a majority confirms it.
    Fenced {
        /// The slot.
        slot: u32,
        /// Since when, by the monotonic clock.
        since: Duration,
        /// Why.
        why: Fence,
    },
    /// Every slot belongs to someone else; tried again now and then.
    Exhausted,
}

/// Why a claim must not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fence {
    /// Too long without a majority of the electors.
    #[error(
        "no majority of the electors (`peers`) has been reached for half the quarantine; check that they run"
    )]
    NoMajority,
    /// Restarted after too long, or with a clock that went backwards.
    #[error(
        "restarted without knowing that the claim is recent; a majority of the electors (`peers`) must confirm it"
    )]
    Restarted,
    /// Restarted with other electors.
    #[error(
        "`peers` has changed since the last start; a majority of the electors must confirm the claim"
    )]
    ElectorsChanged,
}
