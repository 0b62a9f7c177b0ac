//! Whose plugins are called, and one call of theirs with nothing between the clock and the exec.
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use lab::{Node, Plugins, Result, find};
use serde_json::Value;

/// Whose plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Heddle,
    Reference,
}

impl Side {
    pub fn name(self) -> &'static str {
        match self {
            Side::Heddle => "Heddle",
            Side::Reference => "reference",
        }
    }

    /// The plugins on a node of their own.
    pub fn on_new_node(self) -> Result<Plugins> {
        let node = Node::new(self.name())?;
        match self {
            Side::Heddle => Plugins::heddle(&node),
            Side::Reference => Ok(Plugins::reference(&node)),
        }
    }

    fn directory(self) -> PathBuf {
        match self {
            Side::Heddle => "/opt/cni/bin".into(),
            Side::Reference => find::reference_dir(),
        }
    }

    /// One call, timed from before the fork to after the exit. The caller is on the node already, see
    /// [`Node::run`].
    pub fn timed(self, verb: &str, conf: &Value, pod: &str) -> Result<Duration> {
        Ok(self.call(verb, conf, pod)?.0)
    }

    /// The same with what it wrote on stdout.
    pub fn call(self, verb: &str, conf: &Value, pod: &str) -> Result<(Duration, Vec<u8>)> {
        let kind = conf["type"]
            .as_str()
            .context("a configuration has a type")?;
        let stdin = conf.to_string();
        #[allow(
            clippy::disallowed_methods,
            reason = "the lab's own door starts threads, which the clock would see"
        )]
        let mut command = Command::new(self.directory().join(kind));
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", pod)
            .env("CNI_NETNS", format!("/run/netns/{pod}"))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", self.directory())
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
            "{verb} by the {} plugin: {}",
            self.name(),
            String::from_utf8_lossy(&output.stdout)
        );
        Ok((took, output.stdout))
    }
}
