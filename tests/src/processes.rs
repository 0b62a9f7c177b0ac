//! A container host with process ids of its own: what a runtime leaves running dies with it.
use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Command, Daemon, Node, Result};

/// A process namespace (with its own `/proc`) on a node. Whatever was started in it, also what detached itself, is
/// killed by the kernel when this is dropped.
#[derive(Debug)]
pub struct Processes {
    node: Node,
    init: Daemon,
    /// The first process of the namespace, as seen from outside.
    first: String,
}

impl Processes {
    /// Makes the namespace on `node`. Needs `unshare` and `nsenter`.
    pub fn new(node: &Node) -> Result<Processes> {
        let words = [
            "unshare",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sleep",
            "infinity",
        ];
        let init = Daemon::start(node.space(), &words)?;
        let first =
            crate::wait::until(std::time::Duration::from_secs(10), "first process", || {
                let first = child(&init)?;
                // It has become `sleep` when all of its namespaces are made.
                let name = std::fs::read_to_string(format!("/proc/{first}/comm"))?;
                (name.trim() == "sleep")
                    .then_some(first)
                    .context("still being made")
            })?;
        Ok(Processes {
            node: node.clone(),
            init,
            first,
        })
    }

    /// A file as the processes in it see it, as a path to open from anywhere.
    pub fn path(&self, inside: &str) -> String {
        format!("/proc/{}/root{inside}", self.first)
    }

    /// A program to run in it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.node.command("nsenter");
        command.args(self.entering()).arg(program);
        command
    }

    /// Runs shell commands in it, one a line, and stops at the first that fails.
    pub fn sh(&self, script: &str) -> Result<String> {
        self.command("sh").args(["-ec", script]).ok()
    }

    /// A program to run on in it.
    pub fn daemon(&self, words: &[&str]) -> Result<Daemon> {
        let entering = self.entering();
        let entering = entering.iter().map(String::as_str);
        let words: Vec<&str> = ["nsenter"]
            .into_iter()
            .chain(entering)
            .chain(words.iter().copied())
            .collect();
        Daemon::start(self.node.space(), &words)
    }

    /// Sends a signal to a program that was started by [`Processes::daemon`].
    pub fn signal(daemon: &Daemon, signal: Signal) -> Result {
        let pid = Pid::from_raw(child(daemon)?.parse()?);
        kill(pid, signal).with_context(|| format!("{signal} to {}", daemon.name()))
    }

    fn entering(&self) -> [String; 5] {
        ["--target", &self.first, "--mount", "--pid", "--"].map(str::to_owned)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        // With the first process of a namespace the kernel kills all others.
        if let Ok(first) = self.first.parse() {
            kill(Pid::from_raw(first), Signal::SIGKILL).ok();
        }
        self.init.wait();
    }
}

/// The process that the one which entered, or made, the namespace waits for: it alone is inside.
fn child(daemon: &Daemon) -> Result<String> {
    let children = format!("/proc/{0}/task/{0}/children", daemon.pid());
    let children = std::fs::read_to_string(&children)?;
    let first = children.split_whitespace().next();
    Ok(first.context("not there yet")?.to_owned())
}
