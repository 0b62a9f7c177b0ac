//! A program that runs on while a test goes on, and never longer than the test.
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Result, Space};

/// What a program has done since it was started: time on a processor, and how often it has waited for something.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// On all processors together, with that of its children that have ended.
    pub cpu: Duration,
    /// Ends of waiting of its own threads.
    pub wakeups: u64,
}

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

    /// The memory that it holds (`VmRSS` of proc_pid_status(5)), in MB.
    pub fn memory(&self) -> Result<f64> {
        self.megabytes("VmRSS:")
    }

    /// The most that it ever held (`VmHWM`), in MB.
    pub fn peak_memory(&self) -> Result<f64> {
        self.megabytes("VmHWM:")
    }

    fn megabytes(&self, key: &str) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(kib.context(key.to_owned())?.parse::<f64>()? / 1024.0)
    }

    /// What all its threads have done.
    pub fn work(&self) -> Result<Work> {
        let mut work = Work {
            cpu: self.childrens_cpu()?,
            wakeups: 0,
        };
        for task in fs::read_dir(format!("/proc/{}/task", self.pid))? {
            let task = task?.path();
            let text = fs::read_to_string(task.join("schedstat"))?;
            let nanos = text.split(' ').next().unwrap_or_default().parse()?;
            work.cpu += Duration::from_nanos(nanos);
            let status = fs::read_to_string(task.join("status"))?;
            let mut lines = status.lines();
            let waits = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            work.wakeups += waits.context("no count of waits")?.trim().parse::<u64>()?;
        }
        Ok(work)
    }

    /// `cutime` and `cstime` of proc_pid_stat(5), in hundredths of a second.
    fn childrens_cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        let (_, fields) = stat.rsplit_once(") ").context("no name in stat")?;
        let times = fields.split(' ').skip(13).take(2).map(str::parse::<u64>);
        let hundredths = times.sum::<std::result::Result<u64, _>>()?;
        Ok(Duration::from_millis(10 * hundredths))
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
