//! A program run in a place of the lab: output captured, never outlasting its deadline.
use std::ffi::OsStr;
use std::io::{ErrorKind, Write};
use std::process::{self, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Result, Space};

/// A program with its arguments, environment and stdin, to be run in a [`Space`]. Its directory is `/`.
#[derive(Debug)]
pub struct Command {
    space: Space,
    inner: process::Command,
    stdin: Vec<u8>,
    deadline: Duration,
}

/// What a program left behind.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its stdout, as text.
    pub stdout: String,
    /// Its stderr, as text.
    pub stderr: String,
}

impl Command {
    pub(crate) fn new(space: Space, program: &OsStr) -> Command {
        #[allow(
            clippy::disallowed_methods,
            reason = "the one door of the lab to other programs"
        )]
        let mut inner = process::Command::new(program);
        inner
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Command {
            space,
            inner,
            stdin: Vec::new(),
            deadline: Duration::from_secs(60),
        }
    }

    /// One more argument.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.inner.arg(arg);
        self
    }

    /// More arguments.
    pub fn args(&mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Self {
        self.inner.args(args);
        self
    }

    /// A variable of its environment, which otherwise is the caller's.
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.inner.env(key, value);
        self
    }

    /// Variables of its environment.
    pub fn envs(
        &mut self,
        vars: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> &mut Self {
        self.inner.envs(vars);
        self
    }

    /// Takes a variable out of its environment.
    pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Self {
        self.inner.env_remove(key);
        self
    }

    /// What it reads on stdin; nothing unless told.
    pub fn stdin(&mut self, bytes: impl Into<Vec<u8>>) -> &mut Self {
        self.stdin = bytes.into();
        self
    }

    /// After how long it is killed; 60 s unless told.
    pub fn deadline(&mut self, deadline: Duration) -> &mut Self {
        self.deadline = deadline;
        self
    }

    /// Runs it and returns whatever came of it. An error means that it could not be started or ran out of time.
    pub fn output(&mut self) -> Result<Output> {
        let space = self.space.clone();
        space.run(|| self.output_here())
    }

    /// Starts it on the calling thread, which is in the space already, and leaves it running.
    pub(crate) fn spawn(
        &mut self,
        stdin: Stdio,
        out: Stdio,
        err: Stdio,
    ) -> std::io::Result<process::Child> {
        self.inner.stdin(stdin).stdout(out).stderr(err).spawn()
    }

    /// Runs it and returns its stdout; an exit status other than 0 is an error that shows the stderr.
    pub fn ok(&mut self) -> Result<String> {
        let output = self.output()?;
        if !output.status.success() {
            let said = if output.stderr.trim().is_empty() {
                &output.stdout
            } else {
                &output.stderr
            };
            bail!(
                "{} on {}: {}: {}",
                self.line(),
                self.space.name(),
                output.status,
                said.trim()
            );
        }
        Ok(output.stdout)
    }

    fn output_here(&mut self) -> Result<Output> {
        let line = self.line();
        let mut child = self
            .start()
            .with_context(|| format!("cannot start {line}"))?;
        let pid = Pid::from_raw(child.id().try_into()?);
        let (mut input, bytes, deadline) = (child.stdin.take(), &self.stdin, self.deadline);
        let (done, ended) = channel::<()>();
        thread::scope(|s| {
            // A program need not read what it is given: a closed pipe is no failure of ours.
            s.spawn(move || input.take().map(|mut pipe| pipe.write_all(bytes)));
            let overdue = s.spawn(move || {
                let late = ended.recv_timeout(deadline) == Err(RecvTimeoutError::Timeout);
                late && kill(pid, Signal::SIGKILL).is_ok()
            });
            let output = child.wait_with_output();
            drop(done);
            if overdue.join().unwrap_or(false) {
                bail!(
                    "{line} on {} was killed after {deadline:?}",
                    self.space.name()
                );
            }
            let output = output.with_context(|| line.clone())?;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Ok(Output {
                status: output.status,
                stdout: text(&output.stdout),
                stderr: text(&output.stderr),
            })
        })
    }

    /// Starts it. A program that has just been copied is busy while a child of another thread, which has not become what
    /// it is to be, holds the descriptor that it was written by.
    fn start(&mut self) -> std::io::Result<process::Child> {
        for _ in 0..100 {
            match self.inner.spawn() {
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                    thread::sleep(Duration::from_millis(10));
                }
                started => return started,
            }
        }
        self.inner.spawn()
    }

    /// The command as a person would type it.
    fn line(&self) -> String {
        let words = std::iter::once(self.inner.get_program()).chain(self.inner.get_args());
        words
            .map(|word| word.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ")
    }
}
