//! Signals that end a run: they wait until it asks, so that what was begun can be taken back.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::error::{Error, Result};

const ENDING: [Signal; 3] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM];

/// As long as it lives, these signals do not end the calling thread's process. They do so afterwards, if nobody asked.
#[derive(Debug)]
pub struct Interrupts {
    before: Option<SigSet>,
    waiting: Option<SignalFd>,
}

impl Interrupts {
    /// Holds the signals back. Where that is impossible they end the run at once, as they always would.
    pub fn hold() -> Self {
        let ending: SigSet = ENDING.into_iter().collect();
        let waiting = SignalFd::with_flags(&ending, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC);
        let before = waiting.is_ok().then(SigSet::thread_get_mask);
        if waiting.is_ok() {
            ending.thread_block().ok();
        }
        Self {
            before: before.and_then(std::result::Result::ok),
            waiting: waiting.ok(),
        }
    }

    /// Fails when one of them has come.
    pub fn check(&self) -> Result<()> {
        let came = self.waiting.as_ref().map(SignalFd::read_signal);
        let Some(Ok(Some(came))) = came else {
            return Ok(());
        };
        let number = i32::try_from(came.ssi_signo).unwrap_or_default();
        let name = Signal::try_from(number).map_or("a signal", Signal::as_str);
        Err(Error::Interrupted(name))
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            before.thread_set_mask().ok();
        }
    }
}
