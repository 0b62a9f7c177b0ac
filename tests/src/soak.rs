//! The long versions of tests, which `make soak` runs: whether they are asked for, how long they may take, and what they
//! say of what they have done.
use std::env;
use std::time::Duration;

/// Minutes for a long version, from `HEDDLE_SOAK`; `None` when the short ones are to run.
pub fn budget() -> Option<Duration> {
    let minutes: f64 = env::var("HEDDLE_SOAK").ok()?.parse().ok()?;
    Some(Duration::from_secs_f64(minutes * 60.0))
}

/// Whether the long versions are to run.
pub fn is_on() -> bool {
    budget().is_some()
}

/// A figure for the page, shown by the long versions only.
pub fn say(figure: &str) {
    if is_on() {
        println!("{figure}");
    }
}
