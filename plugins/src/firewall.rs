//! `firewall`: lets a pod's packets through the host's FORWARD chain, and keeps other networks' pods out where the
//! configuration wants it. The order of the verbs stands here.

mod conf;
mod forward;
mod isolation;
mod reference;
mod sources;
mod zone;

use std::net::IpAddr;

use cni::{AddResult, Call, Code, Error, Plugin, Result};
use ipnetwork::IpNetwork;

use self::conf::FirewallConf;
use crate::error::Failures;
use crate::masquerade;
use crate::rules;
use crate::undo::Undo;

/// The plugin; its keys are in [`conf`].
#[derive(Debug)]
pub struct Firewall;

impl Plugin for Firewall {
    fn about(&self) -> &'static str {
        "CNI firewall plugin of Heddle"
    }

    fn add(&self, call: &Call) -> Result<AddResult> {
        let previous = previous(call)?;
        let conf = FirewallConf::of(call)?;
        let mut undo = Undo::default();
        add(call, &conf, previous, &mut undo).map_err(|error| undo.run(error))?;
        Ok(previous.clone())
    }

    /// Goes by the attachment, never by addresses: another pod may have them by now.
    fn del(&self, call: &Call) -> Result<()> {
        let mut failures = Failures::default();
        let mut nft = rules::open()?;
        failures.note(forward::remove(&mut nft, call));
        failures.note(isolation::remove(&mut nft, call));
        failures.note(zone::remove(&mut nft, call));
        failures.note(reference::remove(&mut nft, call));
        failures.into_result()
    }

    fn check(&self, call: &Call) -> Result<()> {
        let previous = previous(call)?;
        let conf = FirewallConf::of(call)?;
        let addresses = addresses(call, previous);
        let mut nft = rules::open()?;
        forward::check(&mut nft, call, &addresses)?;
        zone::check(&conf, &ips(&addresses))?;
        match conf.policy {
            Some(policy) => isolation::check(&mut nft, call, policy, previous, &addresses),
            None => Ok(()),
        }
    }

    fn gc(&self, call: &Call) -> Result<()> {
        if call.conf.valid_attachments.is_none() {
            return Ok(());
        }
        let mut failures = Failures::default();
        let mut nft = rules::open()?;
        failures.note(forward::collect(&mut nft, call));
        failures.note(isolation::collect(&mut nft, call));
        failures.note(zone::collect(&mut nft, call));
        failures.into_result()
    }

    fn status(&self, call: &Call) -> Result<()> {
        zone::status(&FirewallConf::of(call)?)?;
        masquerade::status()
    }
}

fn add<'a>(
    call: &'a Call,
    conf: &FirewallConf,
    previous: &AddResult,
    undo: &mut Undo<'a>,
) -> Result<()> {
    let addresses = addresses(call, previous);
    let mut nft = rules::open()?;
    if let Some(policy) = conf.policy {
        let bridge = isolation::bridge(previous)?;
        undo.push("the ingress policy", || {
            isolation::remove(&mut rules::open()?, call)
        });
        isolation::add(&mut nft, call, policy, &bridge, &addresses)?;
    }
    undo.push("the FORWARD rules", || {
        forward::remove(&mut rules::open()?, call)
    });
    forward::add(&mut nft, call, &addresses)?;
    undo.push("the sources of firewalld's zone", || {
        zone::remove(&mut rules::open()?, call)
    });
    zone::add(&mut nft, call, conf, &ips(&addresses))
}

fn ips(addresses: &[IpNetwork]) -> Vec<IpAddr> {
    addresses.iter().map(IpNetwork::ip).collect()
}

/// The pod's own addresses.
fn addresses(call: &Call, previous: &AddResult) -> Vec<IpNetwork> {
    let is_pods = |index: Option<usize>| match index {
        None => true,
        Some(index) => previous.interfaces.get(index).is_some_and(|interface| {
            interface.name == call.attachment.ifname && interface.sandbox.is_some()
        }),
    };
    let pods = previous.ips.iter().filter(|ip| is_pods(ip.interface));
    pods.map(|ip| ip.address).collect()
}

fn previous(call: &Call) -> Result<&AddResult> {
    call.conf.prev_result.as_ref().ok_or_else(|| {
        Error::new(
            Code::InvalidConfig,
            "firewall must be called as a chained plugin: put it behind the plugin that makes the interface",
        )
    })
}
