//! Timers that go off together: each one by itself would wake the processor for itself.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Ticks at once, and then at the multiples of `period` since the process' first such timer.
pub fn every(period: Duration) -> Interval {
    let mut ticks = interval_at(*START, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}
