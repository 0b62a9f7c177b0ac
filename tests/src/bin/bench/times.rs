//! Many measured times, and the figures that stand for them.
use std::time::Duration;

/// Times of one and the same thing.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<Duration>);

/// The rank of a median.
pub const MEDIAN: usize = 50;

impl Times {
    pub fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The smallest time that `percent` of all times do not exceed (nearest rank), in microseconds.
    pub fn micros(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100);
        let time = sorted.get(rank.saturating_sub(1)).copied();
        time.unwrap_or_default().as_secs_f64() * 1e6
    }
}
