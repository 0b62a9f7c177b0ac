//! A lock on the host's network namespace, so that nobody removes a bridge under another call.
//!
//! The lock is `flock(2)` on the namespace's own inode (`/proc/self/ns/net`): it is as wide as the
//! namespace, leaves no file behind, and the kernel lets go of it when the process dies. Calls that
//! only use a bridge hold it shared, for the millisecond between finding the bridge and being one of
//! its ports; the rare call that creates or removes one holds it exclusively.

use std::cell::LazyCell;
use std::fs::{File, TryLockError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cni::{Code, Error, Result};
use netlink::netns::Netns;

/// How long a call waits for the lock before it asks the runtime to try again.
const PATIENCE: Duration = Duration::from_secs(10);
/// First pause between two tries; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_micros(200);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Held until dropped.
#[derive(Debug)]
pub struct NetnsLock(File);

impl NetnsLock {
    /// Keeps bridges from being created or removed by others.
    ///
    /// # Errors
    /// Code 11 when the lock is not to be had in ten seconds.
    pub fn shared() -> Result<Self> {
        Self::open()?.wait(File::try_lock_shared)
    }

    /// Keeps everyone else out, to create or to remove a bridge.
    ///
    /// # Errors
    /// Code 11 when the lock is not to be had in ten seconds.
    pub fn exclusive() -> Result<Self> {
        Self::open()?.wait(File::try_lock)
    }

    /// Lets go of the lock, and keeps the namespace open.
    ///
    /// # Errors
    /// Code 5 when the kernel keeps the lock.
    pub fn release(self) -> Result<Netns> {
        self.0.unlock().map_err(|error| {
            Error::new(
                Code::Io,
                format!("cannot unlock /proc/self/ns/net: {error}"),
            )
        })?;
        Ok(Netns::from(self.0))
    }

    fn open() -> Result<Self> {
        File::open("/proc/self/ns/net").map(Self).map_err(|error| {
            Error::new(
                Code::Io,
                format!("cannot open /proc/self/ns/net to lock the network namespace: {error}"),
            )
        })
    }

    fn wait(
        self,
        attempt: impl Fn(&File) -> std::result::Result<(), TryLockError>,
    ) -> Result<Self> {
        // The first look at the clock costs more than a lock that is free.
        let deadline = LazyCell::new(|| Instant::now() + PATIENCE);
        let mut pause = FIRST_PAUSE;
        loop {
            match attempt(&self.0) {
                Ok(()) => return Ok(self),
                Err(TryLockError::WouldBlock) if Instant::now() < *deadline => {
                    sleep(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::new(
                        Code::TryAgainLater,
                        "another call has held the network namespace's lock for ten seconds: try again",
                    ));
                }
                Err(TryLockError::Error(error)) => {
                    return Err(Error::new(
                        Code::Io,
                        format!("cannot lock /proc/self/ns/net: {error}"),
                    ));
                }
            }
        }
    }
}
