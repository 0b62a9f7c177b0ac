//! The veth pair: its host end is a port of the bridge and carries the attachment's identity as its
//! name and alias, so that DEL and GC find it without any state.

use std::collections::HashSet;
use std::time::Duration;

use cni::{Attachment, Call, Code, Error, Result, identity};
use netlink::netns::Netns;
use netlink::{Handle, Mac, link};

use super::conf::BridgeConf;
use super::device::BridgeDevice;
use crate::error::kernel;
use crate::sandbox;
use crate::undo::Undo;

/// How long a port may take to forward. Carrier comes with the next run of a kernel worker;
/// a second means that something is wrong.
const FORWARDING_PATIENCE: Duration = Duration::from_secs(2);

/// A pair that was made.
#[derive(Debug)]
pub struct VethPair {
    /// Name of the end on the host.
    pub host_name: String,
    /// MAC of the end on the host.
    pub host_mac: Mac,
    /// MAC of the container's end.
    pub mac: Mac,
}

/// The alias that marks the host's end as this attachment's.
pub fn alias(network: &str, attachment: &Attachment) -> String {
    identity::mark(network, attachment, identity::ALIAS_MAX)
}

/// Makes the pair, the container's end in `netns`, the host's end up and on the bridge.
///
/// # Errors
/// Code 4 when the attachment is already there; otherwise what the kernel said.
pub fn create<'a>(
    host: &mut Handle,
    call: &'a Call,
    conf: &BridgeConf,
    bridge: &BridgeDevice,
    mtu: u32,
    netns: &Netns,
    undo: &mut Undo<'a>,
) -> Result<VethPair> {
    let attachment = &call.attachment;
    let pair = VethPair {
        host_name: identity::host_link_name(attachment),
        host_mac: Mac::from(identity::mac(attachment, "host")),
        mac: conf
            .mac
            .unwrap_or_else(|| Mac::from(identity::mac(attachment, "container"))),
    };
    let alias = alias(&call.conf.name, attachment);
    let veth = link::Veth {
        name: &pair.host_name,
        peer_name: &attachment.ifname,
        peer_netns: netns,
        mtu: Some(mtu),
        mac: pair.host_mac,
        peer_mac: pair.mac,
        master: Some(bridge.index),
        up: true,
    };
    // What the kernel passes over in the message that makes a link, it takes in the next one.
    let port = link::BridgePort {
        alias: Some(&alias),
        hairpin: conf.hairpin.then_some(true),
        isolated: conf.isolated.then_some(true),
    };
    let batch = vec![veth.request(), port.request(&pair.host_name)];
    match host.execute(batch) {
        Ok(()) => undo.push("the veth pair", || remove_host_end(call).map(drop)),
        // What stands in the way is an attachment, maybe a living one: hands off.
        Err(error) if error.is_exists() => return Err(already_attached(call, &pair.host_name)),
        Err(error) => {
            undo.push("the veth pair", || remove_host_end(call).map(drop));
            return Err(kernel(error));
        }
    }
    if conf.vlans.any() {
        set_vlans(host, &pair.host_name, conf)?;
    }
    Ok(pair)
}

/// Sets the port's VLANs: the access VLAN untagged and as PVID, the trunk's tagged, and without those
/// that the port was born with unless the configuration keeps them.
fn set_vlans(host: &mut Handle, port: &str, conf: &BridgeConf) -> Result<()> {
    let index = index_of(host, port)?;
    let vlans = &conf.vlans;
    let mut batch = Vec::new();
    if !vlans.preserve_default {
        let born_with = host.port_vlans(index).map_err(kernel)?;
        batch.extend(
            born_with
                .iter()
                .map(|vlan| link::PortVlan::delete(index, vlan.id)),
        );
    }
    // A trunk without an access VLAN keeps VLAN 1 as its native one, as the reference has it.
    let native = vlans
        .access
        .or_else(|| (!vlans.trunk.is_empty()).then_some(1));
    batch.extend(native.map(|id| link::PortVlan::add_native(index, id)));
    batch.extend(
        vlans
            .trunk
            .iter()
            .map(|(min, max)| link::PortVlan::add_tagged(index, *min, *max)),
    );
    host.execute(batch).map_err(kernel)
}

/// Waits until the bridge forwards to and from the port: from then on the pod can be reached.
///
/// # Errors
/// Code 11 when the port does not get there in two seconds.
pub fn wait_until_forwarding(host: &mut Handle, port: &str) -> Result<()> {
    match host
        .wait_forwarding(port, FORWARDING_PATIENCE)
        .map_err(kernel)?
    {
        true => Ok(()),
        false => Err(Error::new(
            Code::TryAgainLater,
            format!(
                "bridge port {port} does not forward yet: look at `bridge link show dev {port}`, then try again"
            ),
        )),
    }
}

/// Removes the attachment's veth pair, whatever is left of it. Without a host end of ours the
/// container's interface is removed: a pair that the reference plugin made has a random name here.
///
/// # Errors
/// What the kernel said; never for a pair that is already gone.
pub fn remove(call: &Call) -> Result<()> {
    if remove_host_end(call)? {
        return Ok(());
    }
    let Some(netns) = sandbox::open_if_there(call)? else {
        return Ok(());
    };
    let mut pod = Handle::in_netns(&netns).map_err(kernel)?;
    match pod.link(&call.attachment.ifname).map_err(kernel)? {
        Some(eth) => ignore_missing(pod.execute(vec![link::delete(eth.index)])),
        None => Ok(()),
    }
}

/// Removes the veth pair by its host end; false when there is none that carries our mark.
fn remove_host_end(call: &Call) -> Result<bool> {
    let mut host = Handle::new().map_err(kernel)?;
    let name = identity::host_link_name(&call.attachment);
    let alias = alias(&call.conf.name, &call.attachment);
    match host.link(&name).map_err(kernel)? {
        Some(link) if link.alias.as_deref() == Some(&alias) => {
            ignore_missing(host.execute(vec![link::delete(link.index)])).map(|()| true)
        }
        _ => Ok(false),
    }
}

/// Removes the pairs of this network whose attachment is not among the valid ones.
///
/// # Errors
/// What the kernel said.
pub fn collect(call: &Call) -> Result<()> {
    let network = &call.conf.name;
    let valid = call.conf.valid_attachments.as_deref().unwrap_or_default();
    let keep: HashSet<String> = valid
        .iter()
        .map(|attachment| alias(network, attachment))
        .collect();
    let mut host = Handle::new().map_err(kernel)?;
    let links = host.links().map_err(kernel)?;
    let stale = links.iter().filter(|link| {
        link.alias
            .as_deref()
            .is_some_and(|alias| identity::belongs_to(alias, network) && !keep.contains(alias))
    });
    for link in stale {
        ignore_missing(host.execute(vec![link::delete(link.index)]))?;
    }
    Ok(())
}

fn ignore_missing(outcome: netlink::Result<()>) -> Result<()> {
    match outcome {
        Err(error) if !error.is_not_found() => Err(kernel(error)),
        _ => Ok(()),
    }
}

pub fn index_of(host: &mut Handle, name: &str) -> Result<u32> {
    let link = host.link(name).map_err(kernel)?;
    link.map(|link| link.index).ok_or_else(|| {
        Error::new(
            Code::Internal,
            format!("{name} vanished while the pod was being attached"),
        )
    })
}

fn already_attached(call: &Call, host_name: &str) -> Error {
    let ifname = &call.attachment.ifname;
    Error::new(
        Code::InvalidEnvironment,
        format!(
            "CNI_IFNAME {ifname}: container {} already has an interface of that name, or its host end {host_name} is left over: run DEL first",
            call.attachment.container_id
        ),
    )
}
