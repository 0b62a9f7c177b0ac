//! `tuning`: sysctls of the pod, and the settings of its link; DEL puts all of them back. The order of the
//! verbs stands here.

mod backup;
mod conf;
mod link;
mod sysctls;

use cni::{AddResult, Call, Code, Error, Plugin, Result};
use netlink::Handle;
use netlink::netns::Netns;

use self::backup::Backup;
use self::conf::TuningConf;
use crate::error::{Failures, kernel};
use crate::sandbox;
use crate::undo::Undo;

/// The plugin; its keys are in [`conf`].
#[derive(Debug)]
pub struct Tuning;

impl Plugin for Tuning {
    fn about(&self) -> &'static str {
        "CNI tuning plugin of Heddle"
    }

    fn add(&self, call: &Call) -> Result<AddResult> {
        let mut result = previous(call)?.clone();
        let conf = TuningConf::of(call)?;
        sysctls::check_allowed(&conf)?;
        if conf.is_empty() {
            return Ok(result);
        }
        let netns = sandbox::open(call)?;
        let mut undo = Undo::default();
        let host_link = add(call, &conf, &netns, &mut undo).map_err(|error| undo.run(error))?;
        for interface in &mut result.interfaces {
            let is_pods = interface.name == call.attachment.ifname && interface.sandbox.is_some();
            let is_hosts =
                interface.sandbox.is_none() && host_link.as_ref() == Some(&interface.name);
            if let Some(mac) = conf.link.mac.filter(|_| is_pods) {
                interface.mac = Some(mac.to_string());
            }
            if let (Some(mtu), true) = (conf.link.mtu, is_pods || is_hosts) {
                // Where nobody spoke of an MTU before, nobody expects one now.
                interface.mtu = interface.mtu.map(|_| mtu);
            }
        }
        Ok(result)
    }

    /// Puts back what ADD wrote down, as far as the pod is still there.
    fn del(&self, call: &Call) -> Result<()> {
        let dir = conf::data_dir(call)?;
        let Some(backup) = Backup::load(&dir, &call.attachment)? else {
            return Backup::forget(&dir, &call.attachment);
        };
        // A pod that is there but cannot be reached for a moment is put right by the next DEL, which needs the backup.
        let netns = sandbox::open_if_there(call)?;
        let mut failures = Failures::default();
        if let Some(netns) = netns {
            // What was short for a moment is not why a pod should keep a setting: afterwards nobody knows of it.
            let restore = || restore(&backup, &netns, &call.attachment.ifname);
            failures.note(restore().or_else(|_| restore()));
        }
        failures.note(link::restore_host_end(&backup));
        failures.note(Backup::forget(&dir, &call.attachment));
        failures.into_result()
    }

    fn check(&self, call: &Call) -> Result<()> {
        previous(call)?;
        let conf = TuningConf::of(call)?;
        if conf.is_empty() {
            return Ok(());
        }
        let netns = sandbox::open(call)?;
        sysctls::check(&netns, &conf.sysctls)?;
        link::check(&netns, &call.attachment.ifname, &conf.link)
    }

    fn gc(&self, call: &Call) -> Result<()> {
        match &call.conf.valid_attachments {
            Some(valid) => Backup::collect(&conf::data_dir(call)?, &call.conf.name, valid),
            None => Ok(()),
        }
    }

    fn status(&self, call: &Call) -> Result<()> {
        let conf = TuningConf::of(call)?;
        sysctls::check_allowed(&conf)
    }
}

/// Changes the settings, and says what the host's end of the link is called if it was changed too.
fn add<'a>(
    call: &'a Call,
    conf: &TuningConf,
    netns: &'a Netns,
    undo: &mut Undo<'a>,
) -> Result<Option<String>> {
    let ifname = &call.attachment.ifname;
    let dir = conf.data_dir.clone();
    // What was there before the first ADD is what is put back, however often ADD comes.
    let earlier = Backup::load(&dir, &call.attachment)?;
    let mut backup = earlier.unwrap_or_else(|| Backup::new(&call.conf.name, &call.attachment));
    sysctls::remember(netns, &conf.sysctls, &mut backup)?;
    let host_link = link::remember(netns, ifname, &conf.link, &mut backup)?;
    backup.save(&dir, &call.attachment)?;
    let before = backup.clone();
    undo.push("the pod's settings", move || {
        let mut failures = Failures::default();
        failures.note(restore(&before, netns, ifname));
        failures.note(link::restore_host_end(&before));
        failures.note(Backup::forget(&dir, &call.attachment));
        failures.into_result()
    });
    sysctls::apply(netns, &conf.sysctls)?;
    link::apply(netns, ifname, &conf.link)?;
    Ok(host_link)
}

fn restore(backup: &Backup, netns: &Netns, ifname: &str) -> Result<()> {
    let mut failures = Failures::default();
    failures.note(link::restore(netns, ifname, backup));
    failures.note(sysctls::restore(netns, &backup.sysctl));
    failures.into_result()
}

fn previous(call: &Call) -> Result<&AddResult> {
    call.conf.prev_result.as_ref().ok_or_else(|| {
        Error::new(
            Code::InvalidConfig,
            "tuning must be called as a chained plugin: put it behind the plugin that makes the interface",
        )
    })
}

/// A handle in the pod's namespace.
fn pod(netns: &Netns) -> Result<Handle> {
    Handle::in_netns(netns).map_err(kernel)
}
