//! 127.0.0.1 as a way to a pod: the kernel routes it beyond `lo` only where `route_localnet` says so, and then
//! it also takes such addresses from the wire. So the setting goes with a guard that drops these: first the
//! guard, then the setting; and the other way round when the last port is gone.

use cni::{Code, Error, Result};
use netlink::nft::{Element, Handle, Key, Transaction};
use netlink::sysctl;

use super::plan::Plan;
use super::table::{DEVICES, TABLE};
use crate::error::kernel;

/// Guards the link in the same transaction as the ports, unless somebody else has opened it: then it is theirs
/// to guard and to close.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn guard(nft: &mut Handle, plan: &Plan, transaction: &mut Transaction) -> Result<()> {
    let Some(device) = &plan.localhost else {
        return Ok(());
    };
    let key = Key::interface(device);
    let guarded = nft.element(TABLE, DEVICES, &key).map_err(kernel)?.is_some();
    if !guarded && !is_open(device)? {
        let element = Element {
            key,
            value: None,
            comment: None,
        };
        transaction.add_elements(DEVICES, &[element]);
    }
    Ok(())
}

/// Opens the link.
///
/// # Errors
/// When the setting cannot be written.
pub fn open(plan: &Plan) -> Result<()> {
    match &plan.localhost {
        Some(device) => sysctl::ensure(&setting(device), "1")
            .map(drop)
            .map_err(kernel),
        None => Ok(()),
    }
}

/// Closes the links that were opened; one that is gone needs no closing.
///
/// # Errors
/// When a setting cannot be written.
pub fn close(nft: &mut Handle) -> Result<()> {
    for element in nft.elements(TABLE, DEVICES).map_err(kernel)? {
        let Some(device) = element.key.as_interface() else {
            continue;
        };
        match sysctl::ensure(&setting(&device), "0") {
            Err(error) if !error.is_not_found() => return Err(kernel(error)),
            _ => {}
        }
    }
    Ok(())
}

/// Whether the host's 127.0.0.1 still reaches the pod.
///
/// # Errors
/// Code 999 when it does not.
pub fn check(plan: &Plan) -> Result<()> {
    match &plan.localhost {
        Some(device) if !is_open(device)? => Err(Error::new(
            Code::Internal,
            format!(
                "127.0.0.1 does not reach the pod's ports any more: /proc/sys/{} is 0",
                setting(device)
            ),
        )),
        _ => Ok(()),
    }
}

fn is_open(device: &str) -> Result<bool> {
    let value = sysctl::get(&setting(device)).map_err(kernel)?;
    Ok(value != "0")
}

fn setting(device: &str) -> String {
    format!("net/ipv4/conf/{device}/route_localnet")
}
