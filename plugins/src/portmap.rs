//! `portmap`: ports of the host that lead to a pod. The order of the verbs stands here; what the rules look
//! like is in [`table`], whose they are in [`store`] and [`release`], what the Go plugin has left in [`reference`].

mod condition;
mod conf;
mod flows;
mod localhost;
mod plan;
mod reference;
mod release;
mod store;
mod table;

use cni::{AddResult, Call, Code, Error, Plugin, Result};

use self::plan::Plan;
use crate::error::Failures;
use crate::masquerade;
use crate::netns_lock::NetnsLock;
use crate::rules;
use crate::undo::Undo;

/// The plugin; its keys are in [`conf`].
#[derive(Debug)]
pub struct Portmap;

impl Plugin for Portmap {
    fn about(&self) -> &'static str {
        "CNI portmap plugin of Heddle"
    }

    fn add(&self, call: &Call) -> Result<AddResult> {
        let previous = previous(call)?;
        if let Some(plan) = Plan::of(call, previous)? {
            let mut undo = Undo::default();
            add(call, &plan, &mut undo).map_err(|error| undo.run(error))?;
        }
        Ok(previous.clone())
    }

    /// Goes by the attachment alone: runtimes leave out the port mappings, or give others than ADD had.
    fn del(&self, call: &Call) -> Result<()> {
        let mut failures = Failures::default();
        let mut nft = rules::open()?;
        let removed = release::remove(&mut nft, call);
        failures.note(removed.and_then(|removed| flows::forget_removed(&removed)));
        failures.note(reference::remove(&mut nft, call));
        failures.into_result()
    }

    fn check(&self, call: &Call) -> Result<()> {
        match Plan::of(call, previous(call)?)? {
            Some(plan) => store::check(&plan).and_then(|()| localhost::check(&plan)),
            None => Ok(()),
        }
    }

    fn gc(&self, call: &Call) -> Result<()> {
        if call.conf.valid_attachments.is_none() {
            return Ok(());
        }
        let mut failures = Failures::default();
        let mut nft = rules::open()?;
        let removed = release::collect(&mut nft, call);
        failures.note(removed.and_then(|removed| flows::forget_removed(&removed)));
        failures.note(reference::collect(&mut nft, call));
        failures.into_result()
    }

    fn status(&self, call: &Call) -> Result<()> {
        conf::PortmapConf::of(call)?;
        masquerade::status()
    }
}

fn add<'a>(call: &'a Call, plan: &Plan, undo: &mut Undo<'a>) -> Result<()> {
    // Nobody may find the table without ports and take it down before the sysctl is set.
    let lock = NetnsLock::shared()?;
    let added = store::add(call, plan);
    // Where it was not refused, what failed may have been the kernel's answer, and the ports are there.
    if !matches!(&added, Err(error) if error.code == Code::InvalidConfig) {
        undo.push("the port mappings", || {
            release::remove(&mut rules::open()?, call).map(drop)
        });
    }
    added?;
    localhost::open(plan)?;
    drop(lock);
    flows::forget_before(plan)
}

fn previous(call: &Call) -> Result<&AddResult> {
    call.conf.prev_result.as_ref().ok_or_else(|| {
        Error::new(
            Code::InvalidConfig,
            "portmap must be called as a chained plugin: put it behind the plugin that makes the interface",
        )
    })
}
