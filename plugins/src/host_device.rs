//! `host-device`: moves one of the host's devices into the pod, and back. The order of the verbs stands here.

mod conf;
mod moving;

use cni::{AddResult, Call, Interface, Plugin, Result};
use netlink::Handle;

use self::conf::HostDeviceConf;
use crate::error::{Failures, kernel};
use crate::guest::Guest;
use crate::ipam::Ipam;
use crate::pod::check::{Expected, broken, compare, previous};
use crate::sandbox;
use crate::undo::Undo;

/// The plugin; its keys are in [`conf`].
#[derive(Debug)]
pub struct HostDevice;

impl Plugin for HostDevice {
    fn about(&self) -> &'static str {
        "CNI host-device plugin of Heddle"
    }

    fn add(&self, call: &Call) -> Result<AddResult> {
        let conf = HostDeviceConf::of(call)?;
        let mut undo = Undo::default();
        add(call, &conf, &mut undo).map_err(|error| undo.run(error))
    }

    /// Finds the device by what stands on itself, so that neither the configuration nor the device need be as they
    /// were.
    fn del(&self, call: &Call) -> Result<()> {
        let mut failures = Failures::default();
        failures.note(moving::give_back(call));
        failures.note(Ipam::release(call));
        failures.into_result()
    }

    fn check(&self, call: &Call) -> Result<()> {
        if let Some(ipam) = Ipam::of(call)? {
            ipam.check(call)?;
        }
        let result = previous(call)?;
        // A device that is the pod's is not to be found on the host, so only what the result says tells the two apart.
        let mine = result
            .interfaces
            .iter()
            .find(|interface| interface.name == call.attachment.ifname);
        if mine.is_some_and(|mine| mine.mac.is_none()) {
            return sandbox::open(call).map(drop);
        }
        let expected = Expected {
            kind: None,
            mtu: None,
            up: true,
        };
        let (_, eth) = compare(call, result, expected)?;
        match eth.alias {
            Some(_) => Ok(()),
            None => Err(broken(format!(
                "{0} has lost its alias, which said what it is called on the host: run `ip link set {0} alias NAME` in the pod",
                eth.name
            ))),
        }
    }

    fn gc(&self, call: &Call) -> Result<()> {
        let mut failures = Failures::default();
        failures.note(moving::collect(call));
        failures.note(Ipam::collect(call));
        failures.into_result()
    }

    /// A device that a pod has is no reason for complaint, so it is not looked for.
    fn status(&self, call: &Call) -> Result<()> {
        Ipam::of(call)?.map_or(Ok(()), |ipam| ipam.status(call))
    }
}

fn add<'a>(call: &'a Call, conf: &HostDeviceConf, undo: &mut Undo<'a>) -> Result<AddResult> {
    let mut guest = Guest::open(call, conf.ipam.as_deref())?;
    let mut host = Handle::new().map_err(kernel)?;
    let device = moving::find(&mut host, &conf.which)?;
    // Before the device is moved, because addresses and routes that it has are lost on the way.
    let mut result = guest.allocate(undo)?;
    match device {
        Some(device) => {
            moving::bring(&mut guest, device, undo)?;
            result = guest.configure(result, conf.dns.as_ref())?;
        }
        None => {
            result.interfaces = vec![Interface {
                name: call.attachment.ifname.clone(),
                sandbox: Some(sandbox::required(call)?.display().to_string()),
                ..Interface::default()
            }];
            result.dns = conf.dns.clone().unwrap_or(result.dns);
        }
    }
    Ok(result)
}
