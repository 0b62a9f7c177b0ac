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
use serde_json::Value;

/// Shared by all hands.
#[derive(Debug, Default)]
pub struct Tally {
    given: Mutex<HashMap<String, String>>,
    took: Mutex<Vec<Duration>>,
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
        self.took.lock().unwrap().push(took);
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

    /// Says the figures: an ADD's median in the first and the last tenth of them.
    pub fn report(&self, whole: Duration) {
        let took = self.took.lock().unwrap();
        let tenth = took.len().div_ceil(10);
        let median = |part: &[Duration]| {
            let mut part = part.to_vec();
            part.sort();
            part.get(part.len() / 2).copied().unwrap_or_default()
        };
        soak::say(&format!(
            "{} ADDs, {} DELs and {} kills in {:.0} s; median ADD of the first tenth {:.1} ms, of the last {:.1} ms",
            took.len(),
            self.dels.load(Ordering::Relaxed),
            self.kills.load(Ordering::Relaxed),
            whole.as_secs_f64(),
            1e3 * median(&took[..tenth.min(took.len())]).as_secs_f64(),
            1e3 * median(&took[took.len() - tenth.min(took.len())..]).as_secs_f64(),
        ));
    }
}
