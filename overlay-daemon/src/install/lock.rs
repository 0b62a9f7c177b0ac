//! One installation at a time in a directory: `flock(2)` on the directory itself, which leaves nothing behind, and holds
//! between containers as well.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::error::{Error, Result};
use super::interrupt::Interrupts;

/// How long another one may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// Takes the lock; it is held until the file is dropped. `None` when the directory went while we waited. A file system that
/// has no locks is used without.
///
/// # Errors
/// When another one holds it for a minute, or the run is told to end.
pub fn lock(dir: &Path, interrupts: &Interrupts) -> Result<Option<File>> {
    let file = File::open(dir).map_err(Error::file("open", dir))?;
    let deadline = Instant::now() + PATIENCE;
    while let Err(TryLockError::WouldBlock) = file.try_lock() {
        interrupts.check()?;
        if Instant::now() > deadline {
            return Err(Error::Locked(dir.to_owned()));
        }
        thread::sleep(PAUSE);
    }
    let locked = file.metadata().map_err(Error::file("open", dir))?;
    let is_there = dir
        .metadata()
        .is_ok_and(|now| (now.dev(), now.ino()) == (locked.dev(), locked.ino()));
    Ok(is_there.then_some(file))
}
