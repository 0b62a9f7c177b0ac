//! `host-local`: gives out addresses of ranges, one file for each that is given out.
//!
//! The files are those of the reference plugin to the byte, so that both can work on one directory,
//! in turns and at the same time. Beside them stands an index by owner (see [`index`]), which makes a call
//! cost the same whatever the number of leases.

mod allocate;
mod conf;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod index;
mod lease;
mod lock;
mod range;
mod resolv_conf;
mod store;

use cni::{AddResult, Attachment, Call, Code, Error, IpConfig, Plugin, Result};

pub use self::lease::{Lease, Owner, all as leases};

use self::conf::{Conf, Place};
use self::store::Store;

/// The plugin.
#[derive(Debug)]
pub struct HostLocal;

impl Plugin for HostLocal {
    fn about(&self) -> &'static str {
        "CNI host-local IPAM plugin of Heddle"
    }

    fn add(&self, call: &Call) -> Result<AddResult> {
        let conf = Conf::of(call)?;
        let mut store = Store::create(&conf.place)?;
        let ips = allocate::all(&mut store, &conf, &call.attachment)?;
        Ok(AddResult {
            ips: ips
                .into_iter()
                .map(|(address, gateway)| IpConfig {
                    interface: None,
                    address,
                    gateway: Some(gateway),
                })
                .collect(),
            routes: conf.routes,
            dns: conf.dns,
            ..AddResult::default()
        })
    }

    /// Needs no more of the configuration than where the leases are: ranges may have changed since.
    fn del(&self, call: &Call) -> Result<()> {
        match Store::open(&Place::of(call)?)? {
            Some(mut store) => store.release(&call.attachment),
            None => Ok(()),
        }
    }

    /// Each address of `prevResult` that lies in our ranges must be this attachment's, and each range
    /// set must have given one.
    fn check(&self, call: &Call) -> Result<()> {
        let conf = Conf::of(call)?;
        let held = match Store::open(&conf.place)? {
            Some(mut store) => store.leases_of(&call.attachment)?,
            None => Vec::new(),
        };
        if held.is_empty() {
            return Err(Error::new(
                Code::Internal,
                format!(
                    "host-local: Failed to find address added by container {}: its lease is gone, so the pod must be made anew",
                    call.attachment.container_id
                ),
            ));
        }
        let previous = call
            .conf
            .prev_result
            .iter()
            .flat_map(|result| &result.ips)
            .map(|ip| ip.address.ip());
        for address in previous.filter(|address| conf.sets.iter().any(|set| set.contains(*address)))
        {
            if !held.contains(&address) {
                return Err(Error::new(
                    Code::Internal,
                    format!(
                        "{address} of \"prevResult\" is not leased to container {}: the pod must be made anew",
                        call.attachment.container_id
                    ),
                ));
            }
        }
        Ok(())
    }

    fn gc(&self, call: &Call) -> Result<()> {
        let valid: &[Attachment] = call.conf.valid_attachments.as_deref().unwrap_or_default();
        match Store::open(&Place::of(call)?)? {
            Some(mut store) => store.release_all_but(valid),
            None => Ok(()),
        }
    }

    fn status(&self, call: &Call) -> Result<()> {
        let conf = Conf::of(call)?;
        conf.place.require_writable()?;
        match Store::open(&conf.place)? {
            Some(store) => allocate::require_room(&store, &conf),
            None => Ok(()),
        }
    }
}
