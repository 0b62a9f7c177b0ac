//! Whose plugins are called, and one call of theirs with nothing between the clock and the exec.
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use lab::{Node, Plugins, Result, find};
use serde_json::Value;

/// Whose plugins.
#[derive(Clone, Debug)]
pub struct Side {
    /// `Heddle`, or `reference` with its version.
    pub name: String,
    directory: PathBuf,
    pub ours: bool,
}

/// A side's plugins on a node of their own.
#[derive(Debug)]
pub struct Seat {
    pub side: Side,
    pub plugins: Plugins,
}

impl Side {
    /// Ours first, then every set of reference plugins that this machine has; and what it has not.
    pub fn all() -> (Vec<Side>, Vec<String>) {
        let mut sides = vec![Side {
            name: "Heddle".into(),
            directory: "/opt/cni/bin".into(),
            ours: true,
        }];
        let mut missing = Vec::new();
        for (directory, version, remedy) in [
            (
                find::reference_dir(),
                "dpkg-query -W -f ${Version} containernetworking-plugins",
                "install containernetworking-plugins (`make deps`)",
            ),
            (
                find::latest_reference_dir(),
                "cat VERSION",
                "`make bench-peers` brings it",
            ),
        ] {
            match directory.join("bridge").is_file() {
                true => sides.push(Side {
                    name: format!("reference {}", short(&said(version, &directory))),
                    directory,
                    ours: false,
                }),
                false => missing.push(format!(
                    "no reference plugins in {}: {remedy}",
                    directory.display()
                )),
            }
        }
        (sides, missing)
    }

    /// The same plugins in another directory.
    pub fn moved(&self, directory: &Path) -> Side {
        Side {
            directory: directory.into(),
            ..self.clone()
        }
    }

    /// Where they are, seen from the node.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The plugins on a node of their own.
    pub fn on_new_node(&self) -> Result<Seat> {
        let node = Node::new(&self.name)?;
        let plugins = match self.ours {
            true => Plugins::heddle(&node)?,
            false => Plugins::reference(&node).with_path(&self.directory.to_string_lossy()),
        };
        Ok(Seat {
            side: self.clone(),
            plugins,
        })
    }

    /// One call, timed from before the fork to after the exit. The caller is on the node already, see
    /// [`Node::run`].
    pub fn timed(&self, verb: &str, conf: &Value, pod: &str) -> Result<Duration> {
        Ok(self.call(verb, conf, pod)?.0)
    }

    /// The same with what it wrote on stdout.
    pub fn call(&self, verb: &str, conf: &Value, pod: &str) -> Result<(Duration, Vec<u8>)> {
        let kind = conf["type"]
            .as_str()
            .context("a configuration has a type")?;
        let stdin = conf.to_string();
        #[allow(
            clippy::disallowed_methods,
            reason = "the lab's own door starts threads, which the clock would see"
        )]
        let mut command = Command::new(self.directory.join(kind));
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", pod)
            .env("CNI_NETNS", format!("/run/netns/{pod}"))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", &self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let start = Instant::now();
        let mut child = command.spawn()?;
        if let Some(mut pipe) = child.stdin.take() {
            pipe.write_all(stdin.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        let took = start.elapsed();
        ensure!(
            output.status.success(),
            "{verb} by {}: {}",
            self.name,
            String::from_utf8_lossy(&output.stdout)
        );
        Ok((took, output.stdout))
    }
}

/// A version without Debian's part and without Go's `v`.
fn short(version: &str) -> &str {
    let version = version.trim_start_matches('v');
    version.split('+').next().unwrap_or(version)
}

/// What a command says in a directory; `of unknown version` where it cannot be asked.
pub fn said(line: &str, directory: &Path) -> String {
    let mut words = line.split(' ');
    #[allow(
        clippy::disallowed_methods,
        reason = "this machine is asked, not a node of the lab"
    )]
    let output = Command::new(words.next().unwrap_or_default())
        .args(words)
        .current_dir(directory)
        .output();
    let text = output
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok());
    let line = text.as_deref().map_or("of unknown version", str::trim);
    line.to_owned()
}
