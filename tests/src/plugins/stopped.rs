//! A call that stops behind each system call of a kind, so that a test does something at exactly that moment: no race, and no
//! waiting for one.
use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Call, Reply, Trace, strace};
use crate::Result;

impl Call {
    /// Makes the call (needs `strace`). It stops when each system call of this name has been done, and goes on when `at`,
    /// which is given its line of the log, has come back.
    pub fn send_stopping(
        &self,
        syscall: &str,
        mut at: impl FnMut(&str) -> Result,
    ) -> Result<Reply> {
        let log = strace::log_file();
        let program = self.program_file()?;
        let mut command = self.node.command("strace");
        command
            .args(strace::stopping(&log, syscall))
            .arg(&program)
            .envs(&self.env)
            .stdin(self.stdin.clone());
        let mut outcome = Ok(());
        let output = thread::scope(|s| {
            let call = s.spawn(|| command.output());
            let mut seen = 0;
            while !call.is_finished() {
                thread::sleep(Duration::from_millis(1));
                let text = self.node.run(|| fs::read_to_string(&log));
                let text = text.unwrap_or_default();
                let stops = text.match_indices("--- stopped by SIGSTOP ---");
                for (place, _) in stops.skip(seen) {
                    seen += 1;
                    let mut before = text[..place].lines().rev();
                    let pid = before.next().unwrap_or_default().trim().parse();
                    let line = before.find(|line| line.contains(syscall));
                    if outcome.is_ok() {
                        outcome = at(line.unwrap_or_default());
                    }
                    // It goes on in any case, or nobody would ever hear of it.
                    let woken = pid.map(|pid| kill(Pid::from_raw(pid), Signal::SIGCONT));
                    woken.ok().and_then(std::result::Result::ok);
                }
            }
            call.join().ok().context("the call's thread")?
        })?;
        outcome?;
        let trace = self.node.run(|| Trace::take(&log))?;
        Ok(Reply::new(output, trace))
    }
}
