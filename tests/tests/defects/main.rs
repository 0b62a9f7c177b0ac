//! What the Go plugins do wrong, as reported: each case makes the same calls on theirs, which must go wrong, and on
//! ours, which must not. Where there are no Go plugins, or none of the version, ours alone are called.
mod bandwidth;
mod firewall;
mod portmap;
mod tuning;

use std::process::ExitCode;

use anyhow::{Context, ensure};
use lab::chain::{Attached, Chain};
use lab::inspect::ruleset;
use lab::{Call, Need, Plugins, Reply, Result, conf, with_prev};
use serde_json::{Value, json};

fn main() -> ExitCode {
    let programs = ["ip", "nft", "tc", "iptables", "ip6tables", "strace"].map(Need::Program);
    let cases = [
        portmap::cases(),
        portmap::cases_of_nftables(),
        bandwidth::cases(),
        firewall::cases(),
        tuning::cases(),
    ];
    let cases = cases.into_iter().flatten();
    lab::main(cases.map(|case| case.needs([Need::HeddleCni]).needs(programs)))
}

/// Whether a side does the thing right.
type Probe = fn(&Side) -> Result<bool>;

/// Cases named after the functions that say whether a side does the thing right; where `knows` says no, the reference
/// is too old to do it at all.
macro_rules! defects {
    ($kind:literal, $knows:expr, [$($probe:ident),* $(,)?]) => {
        vec![$(lab::Case::new(
            concat!($kind, "_", stringify!($probe)),
            || crate::both($kind, $knows, $probe),
        )),*]
    };
}
pub(crate) use defects;

fn both(kind: &'static str, knows: Probe, probe: Probe) -> Result {
    if Need::Reference(kind).missing().is_none() && knows(&Side::reference()?)? {
        let right = probe(&Side::reference()?).context("the reference")?;
        ensure!(
            !right,
            "the reference does it right: it has been mended, and the case can go"
        );
    }
    ensure!(probe(&Side::heddle()?)?, "ours does it wrong");
    Ok(())
}

fn any_version(_: &Side) -> Result<bool> {
    Ok(true)
}

/// A node with a bridge of ours and pods on it, and the plugin to chain behind it: the Go plugin or ours.
struct Side {
    chain: Chain,
    plugins: Plugins,
}

impl Side {
    fn heddle() -> Result<Side> {
        let chain = Chain::new()?;
        let plugins = chain.plugins.clone();
        Ok(Side { chain, plugins })
    }

    fn reference() -> Result<Side> {
        let chain = Chain::new()?;
        let plugins = Plugins::reference(&chain.node);
        Ok(Side { chain, plugins })
    }

    /// A call for a pod with its result, in a version that all releases of the Go plugins know.
    fn call(&self, verb: &str, conf: &Value, to: &Attached) -> Call {
        let version = json!({"cniVersion": "1.0.0"});
        let result = conf::with(to.result.clone(), version.clone());
        let conf = conf::with(with_prev(conf, &result), version);
        self.plugins.call(verb, &conf).pod(&to.pod)
    }

    fn send(&self, verb: &str, conf: &Value, to: &Attached) -> Result<Reply> {
        self.call(verb, conf, to).send()
    }

    /// A call that has to succeed, whoever's plugin it is.
    fn done(&self, verb: &str, conf: &Value, to: &Attached) -> Result {
        let reply = self.send(verb, conf, to)?;
        reply.done().with_context(|| verb.to_owned())
    }

    /// A pod with nothing but IPv4.
    fn attach_v4(&self, name: &str) -> Result<Attached> {
        let mut pod = self.chain.attach(name)?;
        pod.result["ips"] = json!([pod.result["ips"][0]]);
        Ok(pod)
    }

    /// Whether a part occurs in the ruleset.
    fn has_rule(&self, part: &str) -> Result<bool> {
        Ok(ruleset(self.chain.node.space())?.contains(part))
    }
}
