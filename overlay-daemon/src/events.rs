//! What has happened on this node, for people: the last events, each with its object and, where there is one, the remedy.

mod between;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use between::between;

use crate::doctor::Verdict;
use crate::http::Shared;
use crate::status::Status;

/// How many are remembered.
const REMEMBERED: usize = 200;
/// From a change to the look at the status. What comes and goes within is no news, but in the kernel, where changes are
/// counted.
const LOOK: Duration = Duration::from_secs(1);

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Event {
    /// When it happened (last), as RFC 3339 has it, in UTC.
    #[cfg_attr(test, schemars(with = "String"))]
    pub at: Timestamp,
    /// How often it did, as long as it was remembered.
    pub count: u64,
    /// What it was.
    #[serde(flatten)]
    pub news: News,
}

/// What happened, whenever that was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct News {
    /// What is counted together.
    pub kind: Kind,
    /// Whether it is as it should be.
    pub verdict: Verdict,
    /// A node, a file, a kind of kernel row.
    pub object: String,
    /// What became of it.
    pub text: String,
    /// What to do about it, as a command where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The daemon has started.
    Daemon,
    /// The node became ready, or is so no more.
    Health,
    /// Something is wrong that was not before, or is put right.
    Problem,
    /// The conflist was written or taken away.
    Conflist,
    /// The node's own pod CIDRs have changed.
    PodCidrs,
    /// The node's own place on the underlay has changed, or the MTU there.
    Underlay,
    /// Rows in the kernel were changed.
    Kernel,
    /// There is a new peer.
    PeerAppeared,
    /// A peer is gone for good.
    PeerGone,
    /// A peer is reached, or is so no more.
    PeerState,
    /// A peer is reached by another way.
    PeerPath,
}

/// The last events, and how many there were of each kind. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Events(watch::Sender<Ring>);

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Event>,
    counts: BTreeMap<Kind, u64>,
}

impl Events {
    /// Logs and remembers it. What is repeated is counted and moves to the end, so that one flapping peer does not
    /// push everything else out.
    pub fn tell(&self, news: News) {
        let remedy = news.remedy.as_ref().map(|remedy| format!(": {remedy}"));
        let line = format!(
            "{}: {}{}",
            news.object,
            news.text,
            remedy.unwrap_or_default()
        );
        match news.verdict {
            Verdict::Bad => tracing::warn!("{line}"),
            Verdict::Good | Verdict::Note => tracing::info!("{line}"),
        }
        self.0.send_modify(|ring| ring.add(news, Timestamp::now()));
    }

    /// Those that are remembered, the oldest first.
    pub fn recent(&self) -> Vec<Event> {
        self.0.borrow().events.iter().cloned().collect()
    }

    /// How many there were of each kind since the start.
    pub fn counts(&self) -> BTreeMap<Kind, u64> {
        self.0.borrow().counts.clone()
    }
}

impl Ring {
    fn add(&mut self, news: News, at: Timestamp) {
        *self.counts.entry(news.kind).or_default() += 1;
        let same = self.events.iter().position(|event| event.news == news);
        let before = same.and_then(|place| self.events.remove(place));
        let count = before.map_or(0, |event| event.count) + 1;
        self.events.push_back(Event { at, count, news });
        if self.events.len() > REMEMBERED {
            self.events.pop_front();
        }
    }
}

/// Compares the status with what it was before whenever something may have changed, for ever.
pub async fn run(shared: Shared) {
    let mut known = Status::default();
    let (mut membership, mut report) = (shared.membership.clone(), shared.report.clone());
    let (mut conflist, mut probes) = (shared.conflist.clone(), shared.probes.clone());
    loop {
        // A status of thousands of peers is dear, and most of the time it would be the same.
        tokio::select! {
            Ok(()) = membership.changed() => {}
            Ok(()) = report.changed() => {}
            Ok(()) = conflist.changed() => {}
            Ok(()) = probes.changed() => {}
            else => return,
        }
        tokio::time::sleep(LOOK).await;
        membership.mark_unchanged();
        report.mark_unchanged();
        conflist.mark_unchanged();
        probes.mark_unchanged();
        let status = shared.status();
        // Before the first pass, and what came of it for the conflist, nothing is known that could have changed.
        let is_known = shared.conflist.has_changed().unwrap_or(true);
        if is_known && status.passes > 0 {
            for news in between(&known, &status) {
                shared.events.tell(news);
            }
            known = status;
        }
    }
}

#[cfg(test)]
mod tests;
