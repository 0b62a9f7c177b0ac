//! What has happened so far: how often, how long it took, and who has which address.
#![allow(
    clippy::unwrap_used,
    reason = "a lock that is poisoned is a test that has failed"
)]
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::ensure;
use lab::{Result, soak};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::Value;

/// Shared by all hands.
#[derive(Debug, Default)]
pub struct Tally {
    given: Mutex<HashMap<String, String>>,
    /// How long each ADD took, and what all calls together had cost the processor by then.
    took: Mutex<Vec<(Duration, Duration)>>,
    dels: AtomicUsize,
    kills: AtomicUsize,
}

impl Tally {
    /// An ADD of a pod has succeeded: nobody else may have its addresses.
    pub fn added(&self, pod: &str, result: &Value, took: Duration) -> Result {
        let mut given = self.given.lock().unwrap();
        for ip in result["ips"].as_array().into_iter().flatten() {
            let address = ip["address"].to_string();
            if let Some(other) = given.insert(address.clone(), pod.to_owned()) {
                ensure!(
                    other == pod,
                    "{address} was given to {pod} and is {other}'s"
                );
            }
        }
        self.took.lock().unwrap().push((took, processor_time()?));
        Ok(())
    }

    /// A pod is about to give back what it has.
    pub fn leaves(&self, pod: &str) {
        self.given.lock().unwrap().retain(|_, owner| owner != pod);
    }

    /// A DEL of the chain has succeeded.
    pub fn deleted(&self) {
        self.dels.fetch_add(1, Ordering::Relaxed);
    }

    /// A call was killed.
    pub fn killed(&self) {
        self.kills.fetch_add(1, Ordering::Relaxed);
    }

    /// How many ADDs have succeeded.
    pub fn adds(&self) -> usize {
        self.took.lock().unwrap().len()
    }

    /// Says the figures: an ADD's median in the first and the last tenth of them, and what the processor did for one, with
    /// all that came before and after it.
    pub fn report(&self, whole: Duration) {
        let took = self.took.lock().unwrap();
        let tenth = took.len() / 10;
        let (first, last) = (&took[..tenth], &took[took.len() - tenth..]);
        let median = |part: &[(Duration, Duration)]| {
            let mut times: Vec<_> = part.iter().map(|(took, _)| *took).collect();
            times.sort();
            1e3 * times
                .get(times.len() / 2)
                .map_or(0.0, Duration::as_secs_f64)
        };
        let cost = |part: &[(Duration, Duration)]| match part {
            [(_, from), .., (_, to)] => 1e3 * (*to - *from).as_secs_f64() / part.len() as f64,
            _ => 0.0,
        };
        soak::say(&format!(
            "{} ADDs, {} DELs and {} kills in {:.0} s; first tenth: ADD {:.1} ms (median), processor {:.1} ms a pod; \
             last tenth: {:.1} ms, {:.1} ms",
            took.len(),
            self.dels.load(Ordering::Relaxed),
            self.kills.load(Ordering::Relaxed),
            whole.as_secs_f64(),
            median(first),
            cost(first),
            median(last),
            cost(last),
        ));
    }
}

/// What all processes that have ended have cost, in user and kernel mode.
fn processor_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let time = usage.user_time() + usage.system_time();
    Ok(Duration::from_micros(time.num_microseconds().try_into()?))
}
