//! What the machine shows, and what it works out from what it knows.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Machine;
use crate::gossip::claims::{Fence, Taken};
use crate::gossip::records::{Record, Records, name_hash};
use crate::gossip::swim::Swim;
use crate::gossip::{Liveness, Member, Settings, Stored, Time};

impl Machine {
    /// A node as it is shown; `None` if it is unknown or forgotten.
    pub(super) fn member(&self, name: &str, now: Time) -> Option<Member> {
        let (record, (state, since)) = match self.records.get(name) {
            Some(own) if name == self.settings.name => (own, (Liveness::Alive, Duration::ZERO)),
            Some(record) => {
                let state = self.swim.state(name_hash(name));
                (record, state.unwrap_or((Liveness::Down, now.monotonic)))
            }
            None => (
                self.remembered.get(name)?,
                (Liveness::Suspect, Duration::ZERO),
            ),
        };
        (!record.forgotten).then(|| Member {
            node: record.node.clone(),
            state,
            since,
            slot: record.slot,
            address: record.address,
            session: record.session,
        })
    }
}

/// How long ago, by the wall clock, a majority of today's electors confirmed the claim.
pub(super) fn age(stored: &Stored, settings: &Settings, now: Time) -> Result<Duration, Fence> {
    let (mut then, mut today) = (stored.electors.clone(), settings.peers.clone());
    then.sort_unstable();
    today.sort_unstable();
    if then != today {
        return Err(Fence::ElectorsChanged);
    }
    let confirmed = stored
        .last_majority_wall
        .map(Duration::from_millis)
        .ok_or(Fence::Restarted)?;
    now.wall.checked_sub(confirmed).ok_or(Fence::Restarted)
}

/// Which slots the records say are owned.
pub(super) fn taken(
    records: &Records,
    remembered: &BTreeMap<String, Record>,
    swim: &Swim,
) -> Taken {
    let mut taken = Taken::new();
    for record in records
        .others()
        .chain(remembered.values())
        .filter(|record| !record.forgotten)
    {
        if let Some(slot) = record.slot {
            let alive = swim
                .state(name_hash(&record.node.name))
                .is_some_and(|(state, _)| state == Liveness::Alive);
            *taken.entry(slot).or_default() |= alive;
        }
    }
    taken
}
