//! UDP flows that were tracked before a mapping came, or while it was there: UDP knows no beginning, so they would
//! go on to where they went. They are forgotten; these and no others.
//!
//! TCP and SCTP need none of this: a new connection is looked at afresh, and an old one ends with its pod.

use std::net::IpAddr;

use cni::Result;
use netlink::conntrack::{Connection, Handle};
use netlink::nft::Key;

use super::plan::Plan;
use crate::error::kernel;

const UDP: u8 = 17;

/// A mapping whose flows are looked for.
struct Wanted {
    /// The only address of the host that it is for.
    host: Option<IpAddr>,
    port: u16,
    target: (IpAddr, u16),
}

/// Forgets flows to the plan's ports that lead elsewhere: to another pod, or to the host itself.
///
/// # Errors
/// What the kernel said.
pub fn forget_before(plan: &Plan) -> Result<()> {
    let wanted = wanted(plan.entries.iter().map(|entry| (&entry.key, entry.target)));
    if wanted.is_empty() {
        return Ok(());
    }
    let addresses = netlink::Handle::new()
        .and_then(|mut host| host.addresses(None))
        .map_err(kernel)?;
    let is_hosts =
        |ip: IpAddr| ip.is_loopback() || addresses.iter().any(|address| address.network.ip() == ip);
    forget(&wanted, |wanted, flow| {
        (flow.reply.source, flow.reply.source_port) != wanted.target
            && (wanted.host.is_some() || is_hosts(flow.original.destination))
    })
}

/// Forgets flows that lead to these targets by these keys.
///
/// # Errors
/// What the kernel said.
pub fn forget_removed(removed: &[(Key, (IpAddr, u16))]) -> Result<()> {
    let wanted = wanted(removed.iter().map(|(key, target)| (key, *target)));
    forget(&wanted, |wanted, flow| {
        (flow.reply.source, flow.reply.source_port) == wanted.target
    })
}

fn wanted<'a>(mappings: impl Iterator<Item = (&'a Key, (IpAddr, u16))>) -> Vec<Wanted> {
    let udp = mappings.filter_map(|(key, target)| match key.as_service()? {
        (host, UDP, port) => Some(Wanted { host, port, target }),
        _ => None,
    });
    udp.collect()
}

/// Asks once for each family, for it is dear: the kernel looks through every connection of the machine.
fn forget(wanted: &[Wanted], is_stale: impl Fn(&Wanted, &Connection) -> bool) -> Result<()> {
    for v6 in [false, true] {
        let is_of_family = |one: &&Wanted| one.target.0.is_ipv6() == v6;
        let family: Vec<_> = wanted.iter().filter(is_of_family).collect();
        let Some(first) = family.first() else {
            continue;
        };
        let is_one_port = family.iter().all(|one| one.port == first.port);
        let port = is_one_port.then_some(first.port);
        let mut handle = Handle::new().map_err(kernel)?;
        let flows = match handle.connections(v6, UDP, port) {
            // A kernel that tracks none, or shows none, has none to forget.
            Err(error) if error.is_unsupported() => return Ok(()),
            flows => flows.map_err(kernel)?,
        };
        let is_wanted = |flow: &Connection| {
            family.iter().any(|wanted| {
                flow.original.destination_port == wanted.port
                    && wanted
                        .host
                        .is_none_or(|host| host == flow.original.destination)
                    && is_stale(wanted, flow)
            })
        };
        let stale: Vec<_> = flows.into_iter().filter(is_wanted).collect();
        handle.forget(&stale).map_err(kernel)?;
    }
    Ok(())
}
