//! The lock of a network's leases: `flock(2)` on the file `lock`, as the reference plugin takes it, but
//! with an end to the waiting.

use std::cell::LazyCell;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cni::{Code, Error, Result};
use nix::fcntl::OFlag;

/// Name of the lock file.
pub const FILE: &str = "lock";
/// Its mode, as the reference plugin makes it.
const MODE: u32 = 0o750;
/// How long a call waits: well within what any runtime allows for an ADD.
const PATIENCE: Duration = Duration::from_secs(10);
/// First pause between two tries; it doubles up to [`LONGEST_PAUSE`]. The lock is mostly held for less.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(5);

/// Takes the lock of the directory; it is held until the file is dropped.
///
/// # Errors
/// Code 11, naming the holder, when the lock is not to be had in ten seconds; code 5 when the file
/// cannot be opened.
pub fn take(leases: &Path) -> Result<File> {
    let path = leases.join(FILE);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(&path)
        .map_err(|error| {
            Error::new(
                Code::Io,
                format!("cannot open the lock {}: {error}", path.display()),
            )
        })?;
    // The first look at the clock costs more than a lock that is free.
    let deadline = LazyCell::new(|| Instant::now() + PATIENCE);
    let mut pause = FIRST_PAUSE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < *deadline => {
                sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(TryLockError::WouldBlock) => return Err(held_too_long(&file, &path)),
            Err(TryLockError::Error(error)) => {
                return Err(Error::new(
                    Code::Io,
                    format!("cannot lock {}: {error}", path.display()),
                ));
            }
        }
    }
}

fn held_too_long(file: &File, path: &Path) -> Error {
    let holder = holder(file).map_or("another process".to_owned(), |pid| format!("process {pid}"));
    Error::new(
        Code::TryAgainLater,
        format!(
            "{holder} has held {} for ten seconds: look at it, and end it if it hangs",
            path.display()
        ),
    )
}

/// The process that holds the lock, from `/proc/locks`: `1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE 0 EOF`.
fn holder(file: &File) -> Option<u32> {
    let inode = format!(":{}", file.metadata().ok()?.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let pid = words.nth(4)?.parse().ok()?;
        words.next()?.ends_with(&inode).then_some(pid)
    })
}
