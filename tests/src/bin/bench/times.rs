//! Many measured times, and the two figures that stand for them.
use std::time::Duration;

/// Times of one and the same thing.
#[derive(Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub fn median(&self) -> Duration {
        self.rank(50)
    }

    pub fn p99(&self) -> Duration {
        self.rank(99)
    }

    /// The smallest time that `percent` of all times do not exceed (nearest rank).
    fn rank(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100);
        sorted
            .get(rank.saturating_sub(1))
            .copied()
            .unwrap_or_default()
    }
}

/// How many times longer `time` is than `unit`, as the tables show it.
pub fn ratio(time: Duration, unit: Duration) -> String {
    format!("{:.2}×", time.as_secs_f64() / unit.as_secs_f64())
}
