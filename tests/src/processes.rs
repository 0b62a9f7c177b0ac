//! A container host with process ids of its own: what a runtime leaves running dies with it.
use anyhow::Context;

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
        let children = format!("/proc/{0}/task/{0}/children", init.pid());
        let first =
            crate::wait::until(std::time::Duration::from_secs(10), "first process", || {
                let children = std::fs::read_to_string(&children)?;
                let first = children
                    .split_whitespace()
                    .next()
                    .context("not there yet")?;
                // It has become `sleep` when all of its namespaces are made.
                let name = std::fs::read_to_string(format!("/proc/{first}/comm"))?;
                (name.trim() == "sleep")
                    .then(|| first.to_owned())
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

    fn entering(&self) -> [String; 5] {
        ["--target", &self.first, "--mount", "--pid", "--"].map(str::to_owned)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        // With the first process of a namespace the kernel kills all others.
        if let Ok(first) = self.first.parse() {
            nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(first),
                nix::sys::signal::Signal::SIGKILL,
            )
            .ok();
        }
        self.init.wait();
    }
}
