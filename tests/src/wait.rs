//! Waiting for something that comes by itself.
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::Result;

/// Asks again and again until there is an answer, and returns it. An error means that `patience` ran out; it names what
/// was waited `for_what`, and why the last attempt was none.
pub fn until<T>(
    patience: Duration,
    for_what: &str,
    mut ask: impl FnMut() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(why) if Instant::now() >= deadline => {
                bail!("no {for_what} within {patience:?}: {why:#}")
            }
            Err(_) => sleep(Duration::from_millis(20)),
        }
    }
}
