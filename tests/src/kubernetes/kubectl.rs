//! kubectl, run where the control plane is: what a person with a cluster has.
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use super::{DIR, Programs};
use crate::{Command, Node, Output, Result, wait};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(250);

/// The cluster's administrator at a prompt.
#[derive(Clone, Debug)]
pub struct Kubectl {
    node: Node,
    program: String,
}

impl Kubectl {
    pub(super) fn new(node: &Node, programs: &Programs) -> Kubectl {
        Kubectl {
            node: node.clone(),
            program: programs.path("kubectl"),
        }
    }

    /// The command with these words, to add what has blanks in it.
    pub fn command(&self, words: &str) -> Command {
        let mut command = self.node.command(&self.program);
        command.env("NO_PROXY", "*").env("HOME", "/run");
        command.arg(format!("--kubeconfig={DIR}/admin.kubeconfig"));
        command.args(words.split_whitespace());
        command
    }

    /// What it prints; an error shows what it says.
    pub fn run(&self, words: &str) -> Result<String> {
        self.command(words).ok()
    }

    /// Whatever comes of it.
    pub fn attempt(&self, words: &str) -> Result<Output> {
        self.command(words).output()
    }

    /// Applies a manifest.
    pub fn apply(&self, manifest: impl Into<Vec<u8>>) -> Result {
        let mut command = self.command("apply -f -");
        command.stdin(manifest).ok().map(drop)
    }

    /// An object, or a list of them, such as `nodes` or `pod web -n default`.
    pub fn get(&self, words: &str) -> Result<Value> {
        let text = self.run(&format!("get {words} -o json"))?;
        serde_json::from_str(&text).with_context(|| format!("kubectl get {words}"))
    }

    /// The items of a list.
    pub fn list(&self, words: &str) -> Result<Vec<Value>> {
        match self.get(words)?["items"].take() {
            Value::Array(items) => Ok(items),
            other => anyhow::bail!("kubectl get {words} is no list: {other}"),
        }
    }

    /// Runs a line in a pod's container by its shell.
    pub fn exec(&self, pod: &str, line: &str) -> Result<String> {
        let mut command = self.command("exec");
        command.args([pod, "--", "sh", "-c", line]).ok()
    }

    /// Waits until an object or list is as `good` wants it.
    pub fn wait(
        &self,
        patience: Duration,
        words: &str,
        good: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        Kubectl::until(patience, &format!("{words} as wanted"), || {
            let object = self.get(words)?;
            anyhow::ensure!(good(&object), "{}", brief(&object));
            Ok(object)
        })
    }

    /// Asks again and again, as [`wait::until`] does, but leaves the machine some time in between: each question is a
    /// program.
    pub fn until<T>(
        patience: Duration,
        for_what: &str,
        mut ask: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        wait::until(patience, for_what, || {
            ask().inspect_err(|_| std::thread::sleep(PAUSE))
        })
    }
}

/// An object's name and status, of each item of a list, for a message.
fn brief(object: &Value) -> String {
    let items = object["items"].as_array();
    let all = items.map_or(std::slice::from_ref(object), Vec::as_slice);
    let lines = all.iter().map(|item| {
        let mut status = item["status"].clone();
        if let Some(status) = status.as_object_mut() {
            for long in ["images", "allocatable", "capacity", "nodeInfo"] {
                status.remove(long);
            }
        }
        format!("\n{}: {status}", item["metadata"]["name"])
    });
    lines.collect()
}
