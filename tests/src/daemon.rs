//! A program that runs on while a test goes on, and never longer than the test.
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Result, Space};

/// A running program with its output in a log. It is killed when this is dropped, and by the kernel
/// (`PR_SET_PDEATHSIG`) when the test itself is killed.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    pid: Pid,
    log: File,
    keeper: Option<JoinHandle<Option<ExitStatus>>>,
}

impl Daemon {
    /// Starts a program with its arguments in a space. Needs `setpriv`, which keeps the process id.
    pub fn start(space: &Space, words: &[&str]) -> Result<Daemon> {
        let name = words.join(" ");
        let log = tempfile::tempfile().context("a log file")?;
        let (out, err) = (log.try_clone()?, log.try_clone()?);
        let (started, start) = channel();
        let (inside, words): (_, Vec<String>) = (
            space.clone(),
            words.iter().map(ToString::to_string).collect(),
        );
        // The kernel watches the thread that starts the program, so that one stays until it ends.
        let keeper = space.spawn(move || {
            let mut command = inside.command("setpriv");
            command.args(["--pdeathsig", "KILL", "--"]).args(words);
            match command.spawn(Stdio::null(), out.into(), err.into()) {
                Ok(mut child) => {
                    started.send(Ok(child.id())).ok();
                    child.wait().ok()
                }
                Err(error) => {
                    started.send(Err(error)).ok();
                    None
                }
            }
        });
        let pid = start.recv().context("the keeper's thread")?;
        Ok(Daemon {
            pid: Pid::from_raw(
                pid.with_context(|| format!("cannot start {name}"))?
                    .try_into()?,
            ),
            name,
            log,
            keeper: Some(keeper),
        })
    }

    /// The command line that it was started with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id, as the test's own process namespace numbers it.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        self.keeper
            .as_ref()
            .is_some_and(|keeper| !keeper.is_finished())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result {
        kill(self.pid, signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// Waits until it has ended, and how it did; `None` when nobody could tell.
    pub fn wait(&mut self) -> Option<ExitStatus> {
        self.keeper.take()?.join().ok().flatten()
    }

    /// What it has written so far, stdout and stderr together.
    pub fn log(&self) -> Result<String> {
        // Opened anew: a duplicate would move the place at which the program writes.
        let file = format!("/proc/self/fd/{}", self.log.as_raw_fd());
        Ok(String::from_utf8_lossy(&fs::read(file)?).into_owned())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.is_running() {
            kill(self.pid, Signal::SIGKILL).ok();
        }
        self.wait();
    }
}
