//! The host's end of the veth pair as a port of the bridge: its settings, its VLANs, and when it forwards.

use std::time::Duration;

use cni::{Call, Code, Error, Result};
use netlink::netns::Netns;
use netlink::{Handle, link};

use super::conf::BridgeConf;
use super::device::BridgeDevice;
use crate::error::kernel;
use crate::undo::Undo;
use crate::veth::{self, VethPair};

/// How long a port may take to forward. Carrier comes with the next run of a kernel worker;
/// a second means that something is wrong.
const FORWARDING_PATIENCE: Duration = Duration::from_secs(2);

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
    let wanted = veth::Wanted {
        mtu,
        mac: conf.mac,
        master: Some(bridge.index),
        up: true,
    };
    let settings = |port: &str, alias: &str| {
        let port_settings = link::BridgePort {
            alias: Some(alias),
            hairpin: conf.hairpin.then_some(true),
            isolated: conf.isolated.then_some(true),
        };
        port_settings.request(port)
    };
    let pair = veth::create(host, call, wanted, netns, settings, undo)?;
    if conf.vlans.any() {
        set_vlans(host, &pair.host_name, conf)?;
    }
    Ok(pair)
}

/// Sets the port's VLANs: the access VLAN untagged and as PVID, the trunk's tagged, and without those
/// that the port was born with unless the configuration keeps them.
fn set_vlans(host: &mut Handle, port: &str, conf: &BridgeConf) -> Result<()> {
    let index = veth::index_of(host, port)?;
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
