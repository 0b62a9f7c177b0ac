//! The `ifb` that the Go plugin has made for a pod: named after a hash of network and container, without an alias.

use cni::{Attachment, Call, Result};
use netlink::{Handle, Link};

use super::shape;
use crate::error::{Failures, kernel};
use crate::reference;

const PREFIX: &str = "bwp";
const DIGITS: usize = 12;

/// Removes the container's.
///
/// # Errors
/// What the kernel refused.
pub fn remove(host: &mut Handle, call: &Call) -> Result<()> {
    shape::remove_ifb(host, &name(&call.conf.name, &call.attachment))
}

/// Removes those among `links` that are no valid attachment's and that nothing is sent to any more: a hash does not say
/// of which network it is, but a pod that is there has a link that leads to its `ifb`.
///
/// # Errors
/// What the kernel refused.
pub fn collect(
    host: &mut Handle,
    links: &[Link],
    network: &str,
    valid: &[Attachment],
) -> Result<()> {
    let keep: Vec<_> = valid
        .iter()
        .map(|attachment| name(network, attachment))
        .collect();
    let idle: Vec<_> = links
        .iter()
        .filter(|link| is_references(link) && !keep.contains(&link.name))
        .collect();
    if idle.is_empty() {
        return Ok(());
    }
    let mut used = Vec::new();
    for link in links
        .iter()
        .filter(|link| link.kind.as_deref() == Some("veth"))
    {
        used.extend(host.redirections(link.index).map_err(kernel)?);
    }
    let mut failures = Failures::default();
    for link in idle {
        if !used.contains(&link.index) {
            failures.note(shape::remove_ifb(host, &link.name));
        }
    }
    failures.into_result()
}

fn is_references(link: &Link) -> bool {
    link.kind.as_deref() == Some("ifb")
        && link.alias.is_none()
        && link.name.strip_prefix(PREFIX).is_some_and(|hash| {
            hash.len() == DIGITS && hash.bytes().all(|digit| digit.is_ascii_hexdigit())
        })
}

fn name(network: &str, attachment: &Attachment) -> String {
    reference::hashed(PREFIX, DIGITS, network, attachment)
}
