//! Connections that were tracked before a mapping came, or while it was there: they would go on to where they
//! went, so they are forgotten; these and no others.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cni::Result;
use netlink::conntrack::{Connection, Handle};
use netlink::nft::Key;

use super::plan::Plan;
use crate::error::kernel;

const UDP: u8 = 17;

/// A mapping whose connections are looked for.
struct Wanted {
    /// The only address of the host that it is for.
    host: Option<IpAddr>,
    protocol: u8,
    port: u16,
    target: (IpAddr, u16),
}

/// Forgets connections to the plan's ports that lead elsewhere: to another pod, or, as UDP knows no beginning,
/// to the host itself.
///
/// # Errors
/// What the kernel said.
pub fn forget_before(plan: &Plan) -> Result<()> {
    let wanted = wanted(plan.entries.iter().map(|entry| (&entry.key, entry.target)));
    let addresses = netlink::Handle::new()
        .and_then(|mut host| host.addresses(None))
        .map_err(kernel)?;
    let is_hosts =
        |ip: IpAddr| ip.is_loopback() || addresses.iter().any(|address| address.network.ip() == ip);
    forget(&wanted, |wanted, connection| {
        let (original, reply) = (connection.original, connection.reply);
        let goes_to = (reply.source, reply.source_port);
        let is_translated = goes_to != (original.destination, original.destination_port);
        goes_to != wanted.target
            && (is_translated || connection.protocol == UDP)
            && (wanted.host.is_some() || is_hosts(original.destination))
    })
}

/// Forgets connections that lead to these targets by these keys.
///
/// # Errors
/// What the kernel said.
pub fn forget_removed(removed: &[(Key, (IpAddr, u16))]) -> Result<()> {
    let wanted = wanted(removed.iter().map(|(key, target)| (key, *target)));
    forget(&wanted, |wanted, connection| {
        (connection.reply.source, connection.reply.source_port) == wanted.target
    })
}

fn wanted<'a>(mappings: impl Iterator<Item = (&'a Key, (IpAddr, u16))>) -> Vec<Wanted> {
    mappings
        .filter_map(|(key, target)| {
            let (host, protocol, port) = key.as_service()?;
            Some(Wanted {
                host,
                protocol,
                port,
                target,
            })
        })
        .collect()
}

/// Asks for the connections of each family and protocol once, of one port if there is but one.
fn forget(wanted: &[Wanted], is_stale: impl Fn(&Wanted, &Connection) -> bool) -> Result<()> {
    let mut groups: BTreeMap<(bool, u8), Vec<&Wanted>> = BTreeMap::new();
    for one in wanted {
        let group = groups.entry((one.target.0.is_ipv6(), one.protocol));
        group.or_default().push(one);
    }
    if groups.is_empty() {
        return Ok(());
    }
    let mut handle = Handle::new().map_err(kernel)?;
    for ((v6, protocol), group) in groups {
        let port = match group.as_slice() {
            [one] => Some(one.port),
            _ => None,
        };
        let connections = match handle.connections(v6, protocol, port) {
            // A kernel that tracks none, or shows none, has none to forget.
            Err(error) if error.is_unsupported() => continue,
            connections => connections.map_err(kernel)?,
        };
        let stale: Vec<_> = connections
            .into_iter()
            .filter(|connection| {
                group.iter().any(|wanted| {
                    connection.original.destination_port == wanted.port
                        && wanted
                            .host
                            .is_none_or(|host| host == connection.original.destination)
                        && is_stale(wanted, connection)
                })
            })
            .collect();
        handle.forget(&stale).map_err(kernel)?;
    }
    Ok(())
}
