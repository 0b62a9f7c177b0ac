//! The gateway of a VLAN: `<bridge>.<vlan>`, a veth end on the host whose other end is an access port
//! of that VLAN. One serves all pods of the VLAN, so it stays when a pod goes.

use cni::{Attachment, Code, Error, Interface, Result, identity};
use netlink::netns::Netns;
use netlink::{Handle, Mac, link};

use super::device::{BridgeDevice, MARK};
use crate::error::kernel;
use crate::veth;

/// Finds the VLAN's gateway interface or makes it; returns its index and its entry in the result.
///
/// # Errors
/// Code 7 when the name would be too long for a device; otherwise what the kernel said.
pub fn ensure(host: &mut Handle, bridge: &BridgeDevice, vlan: u16) -> Result<(u32, Interface)> {
    let name = format!("{}.{vlan}", bridge.name);
    cni::check_interface_name(&name).map_err(|why| {
        Error::new(
            Code::InvalidConfig,
            format!("\"bridge\" {:?} with \"vlan\" {vlan}: the gateway's interface {name:?} cannot be made: {}", bridge.name, why.msg),
        )
    })?;
    let found = match host.link(&name).map_err(kernel)? {
        Some(found) => found,
        None => create(host, bridge, vlan, &name)?,
    };
    let interface = Interface {
        name,
        mac: found.mac.map(|mac| mac.to_string()),
        mtu: Some(found.mtu),
        ..Interface::default()
    };
    Ok((found.index, interface))
}

fn create(
    host: &mut Handle,
    bridge: &BridgeDevice,
    vlan: u16,
    name: &str,
) -> Result<netlink::Link> {
    // Not an attachment, but named and addressed by the same rule, from what identifies it.
    let identity_of = Attachment {
        container_id: bridge.name.clone(),
        ifname: name.to_owned(),
    };
    let port = identity::host_link_name(&identity_of);
    let veth = link::Veth {
        name: &port,
        peer_name: name,
        peer_netns: &Netns::current().map_err(kernel)?,
        mtu: Some(bridge.mtu),
        mac: Mac::from(identity::mac(&identity_of, "port")),
        peer_mac: Mac::from(identity::mac(&identity_of, "gateway")),
        master: Some(bridge.index),
        up: true,
    };
    match host.execute(vec![veth.request()]) {
        Err(error) if !error.is_exists() => return Err(kernel(error)),
        _ => {}
    }
    let index = veth::index_of(host, &port)?;
    let gateway = veth::index_of(host, name)?;
    let born_with = host.port_vlans(index).map_err(kernel)?;
    let mut batch: Vec<_> = born_with
        .iter()
        .map(|vlan| link::PortVlan::delete(index, vlan.id))
        .collect();
    batch.push(link::PortVlan::add_native(index, vlan));
    batch.push(link::set_alias(index, MARK));
    batch.push(link::set_up(gateway));
    host.execute(batch).map_err(kernel)?;
    host.link(name).map_err(kernel)?.ok_or_else(|| {
        Error::new(
            Code::Internal,
            format!("{name} vanished as soon as it was made"),
        )
    })
}
