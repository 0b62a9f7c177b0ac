//! The pod's network namespace as a call names it.

use std::path::Path;

use cni::{Call, Code, Command, Error, Result};
use netlink::netns::Netns;

use crate::error::kernel;

/// The pod's namespace for ADD and CHECK, which need it.
///
/// # Errors
/// Code 4 when `CNI_NETNS` is missing, code 8 when it names no network namespace, or the host's own
/// (unless `CNI_NETNS_OVERRIDE` is set), before anything has been changed.
pub fn open(call: &Call) -> Result<Netns> {
    let path = required(call)?;
    let netns = Netns::open(path).map_err(|error| {
        Error::new(
            Code::InvalidNetns,
            format!("CNI_NETNS {}: {error}", path.display()),
        )
    })?;
    // For all other commands it has been looked at before anything was done.
    if call.command == Command::Check && !call.netns_override && is_own(&netns)? {
        return Err(Error::new(
            Code::InvalidNetns,
            format!(
                "CNI_NETNS {} is the plugin's own network namespace, so the host itself would be configured: give the pod's, or set CNI_NETNS_OVERRIDE=1",
                path.display()
            ),
        ));
    }
    Ok(netns)
}

/// The pod's namespace for DEL, which must work without it: `None` when `CNI_NETNS` is empty, is
/// gone, is a plain file (a mount that a reboot removed), or is the host's own.
///
/// # Errors
/// Only when the namespace is there but cannot be opened.
pub fn open_if_there(call: &Call) -> Result<Option<Netns>> {
    let Some(path) = call.netns.as_deref() else {
        return Ok(None);
    };
    match Netns::open(path) {
        Ok(netns) if call.netns_override || !is_own(&netns)? => Ok(Some(netns)),
        Ok(_) => Ok(None),
        Err(error) if error.is_not_a_netns() => Ok(None),
        Err(error) => Err(kernel(error)),
    }
}

/// The path exactly as the runtime gave it: what `sandbox` in a result must repeat.
///
/// # Errors
/// Code 4 when the runtime gave none.
pub fn required(call: &Call) -> Result<&Path> {
    call.netns.as_deref().ok_or_else(|| {
        Error::new(
            Code::InvalidEnvironment,
            "required env variables [CNI_NETNS] missing",
        )
    })
}

fn is_own(netns: &Netns) -> Result<bool> {
    Netns::current()
        .and_then(|own| own.is_same(netns))
        .map_err(kernel)
}
