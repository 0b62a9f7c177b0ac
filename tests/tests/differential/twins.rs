//! Two nodes that are the same but for whose plugins they have, and calls made on both.
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use lab::{Call, Node, Plugins, Pod, Reply, Result, Space, inspect, wait, with_prev};
use serde_json::{Value, json};

use crate::normal;

/// The versions that Debian's plugins know; 1.1.0 is younger.
pub const VERSIONS: [&str; 6] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"];

/// One of the nodes.
pub struct Side {
    node: Node,
    plugins: Plugins,
    pods: Vec<Pod>,
}

/// Both nodes.
pub struct Twins {
    reference: Side,
    heddle: Side,
}

/// The answers to the same call.
pub struct Answers {
    pub reference: Reply,
    pub heddle: Reply,
}

impl Side {
    /// A pod by its name, or by none the node itself.
    pub fn place(&self, pod: &str) -> Result<&Space> {
        if pod.is_empty() {
            return Ok(self.node.space());
        }
        let found = self.pods.iter().find(|known| known.name() == pod);
        Ok(found.with_context(|| format!("no pod {pod}"))?.space())
    }
}

impl Twins {
    /// Two nodes with the same pods on each.
    pub fn new(pods: &[&str]) -> Result<Twins> {
        let side = |name, plugins: fn(&Node) -> Result<Plugins>| -> Result<Side> {
            let node = Node::new(name)?;
            let pods = pods
                .iter()
                .map(|pod| node.pod(pod))
                .collect::<Result<_>>()?;
            Ok(Side {
                plugins: plugins(&node)?,
                node,
                pods,
            })
        };
        Ok(Twins {
            reference: side("reference", |node| Ok(Plugins::reference(node)))?,
            heddle: side("heddle", Plugins::heddle)?,
        })
    }

    /// The reference's node and Heddle's.
    pub fn sides(&self) -> [&Side; 2] {
        [&self.reference, &self.heddle]
    }

    /// Runs a script on both nodes.
    pub fn sh(&self, script: &str) -> Result {
        for side in self.sides() {
            inspect::sh(side.place("")?, script)?;
        }
        Ok(())
    }

    /// The same call on both nodes.
    pub fn call(
        &self,
        command: &str,
        conf: &Value,
        shape: impl Fn(Call) -> Call,
    ) -> Result<Answers> {
        self.call_with(command, [conf, conf], shape)
    }

    /// The same call on both nodes with a configuration for each.
    pub fn call_with(
        &self,
        command: &str,
        confs: [&Value; 2],
        shape: impl Fn(Call) -> Call,
    ) -> Result<Answers> {
        Ok(Answers {
            reference: shape(self.reference.plugins.call(command, confs[0])).send()?,
            heddle: shape(self.heddle.plugins.call(command, confs[1])).send()?,
        })
    }

    /// CHECK with the result that each side has given.
    pub fn check(
        &self,
        conf: &Value,
        results: &Results,
        shape: impl Fn(Call) -> Call,
    ) -> Result<Answers> {
        let confs = [&results.reference, &results.heddle].map(|result| with_prev(conf, result));
        self.call_with("CHECK", [&confs[0], &confs[1]], shape)
    }

    /// Fails unless a pod looks the same from inside on both nodes, at once: a pod is ready when ADD returns.
    pub fn same_pod(&self, pod: &str) -> Result {
        self.same_view("the pod", |side| normal::pod(side.place(pod)?))
    }

    /// Fails unless a bridge with its ports comes to look the same on both nodes. That may take a moment: the
    /// reference's gateway of IPv6 is tentative for a second, and the kernel tells the state of a carrier when it likes.
    pub fn same_bridge(&self, name: &str) -> Result {
        wait::until(Duration::from_secs(4), "bridges that are the same", || {
            self.same_view("the bridge", |side| normal::bridge(side.place("")?, name))
        })
    }

    /// Fails unless host-local's files are the same on both nodes.
    pub fn same_leases(&self) -> Result {
        self.same_view("what host-local wrote", |side| {
            normal::leases(side.place("")?)
        })
    }

    fn same_view(&self, what: &str, view: impl Fn(&Side) -> Result<Value>) -> Result {
        same(what, &view(&self.reference)?, &view(&self.heddle)?)
    }
}

/// The results of an ADD that succeeded on both nodes, as they were given.
pub struct Results {
    pub reference: Value,
    pub heddle: Value,
}

impl Answers {
    /// Both succeeded, with the same result but for what [`normal::result`] takes out.
    pub fn results(&self) -> Result<Results> {
        let reference = self.reference.result().context("the reference")?;
        let heddle = self.heddle.result().context("Heddle")?;
        same(
            "the result",
            &normal::result(&reference)?,
            &normal::result(&heddle)?,
        )?;
        Ok(Results { reference, heddle })
    }

    /// Both succeeded and printed nothing.
    pub fn done(&self) -> Result {
        self.reference.done().context("the reference")?;
        self.heddle.done().context("Heddle")?;
        let printed = [&self.reference, &self.heddle].map(|reply| reply.output.stdout.trim());
        ensure!(printed == ["", ""], "printed: {printed:?}");
        Ok(())
    }

    /// Both failed; Heddle's code is this one, and the reference's too where it says more than 999, which it gives
    /// for everything that is not the fault of the call's outer form. Returns both messages.
    pub fn failures(&self, code: u64) -> Result<[String; 2]> {
        let (theirs, reference) = self.reference.failure().context("the reference")?;
        let (ours, heddle) = self.heddle.failure().context("Heddle")?;
        ensure!(ours == code, "code {ours} instead of {code}: {heddle}");
        if theirs != 999 && theirs != ours {
            bail!("the reference gives {theirs} ({reference}), Heddle {ours} ({heddle})");
        }
        let document = self.heddle.document()?.unwrap_or_default();
        ensure!(
            document.get("cniVersion").is_some(),
            "an error without cniVersion: {document}"
        );
        Ok([reference, heddle])
    }

    /// Both succeeded with the same result, or both failed as [`Answers::failures`] has it.
    pub fn same_outcome(&self, code: u64) -> Result {
        match self.reference.is_success() || self.heddle.is_success() {
            true => self.results().map(drop),
            false => self.failures(code).map(drop),
        }
    }
}

/// Fails with what only one of them has.
pub fn same(what: &str, reference: &Value, heddle: &Value) -> Result {
    if reference == heddle {
        return Ok(());
    }
    let lists = [reference, heddle].map(|value| {
        value
            .as_array()
            .cloned()
            .unwrap_or_else(|| vec![value.clone()])
    });
    let only = |index: usize| -> String {
        let own = lists[index]
            .iter()
            .filter(|item| !lists[1 - index].contains(item));
        own.map(|item| format!("\n  {item}")).collect()
    };
    bail!(
        "{what} differs\nonly the reference:{}\nonly Heddle:{}",
        only(0),
        only(1)
    )
}

/// The configuration in another version.
pub fn at(version: &str, conf: &Value) -> Value {
    lab::conf::with(conf.clone(), json!({"cniVersion": version}))
}

/// For a pod by name.
pub fn to(pod: &str) -> impl Fn(Call) -> Call {
    move |call| {
        call.id(pod)
            .netns(&format!("/run/netns/{pod}"))
            .ifname("eth0")
    }
}
