//! The bridge device: found, made, or put right if it is one that Heddle made.

use cni::{Code, Error, Result};
use netlink::{Handle, Link, Mac, link, sysctl};

use super::conf::BridgeConf;
use crate::error::kernel;
use crate::netns_lock::NetnsLock;
use crate::undo::Undo;
use crate::uplink;

/// The alias of a device that Heddle made for all pods: only such a one is ever altered or removed.
pub const MARK: &str = "heddle";

/// The bridge as the rest of the call needs it.
#[derive(Debug)]
pub struct BridgeDevice {
    /// Interface index on the host.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MAC.
    pub mac: Mac,
    /// Its MTU in bytes.
    pub mtu: u32,
}

/// Finds the bridge, or makes it, and returns it with the lock that keeps it from being removed.
///
/// # Errors
/// Code 7 when the name belongs to a device of another kind; otherwise what the kernel said.
pub fn ensure<'a>(
    host: &mut Handle,
    conf: &'a BridgeConf,
    lock: NetnsLock,
    undo: &mut Undo<'a>,
) -> Result<(BridgeDevice, NetnsLock)> {
    if let Some(found) = host.link(&conf.bridge).map_err(kernel)? {
        return Ok((adopt(host, conf, found)?, lock));
    }
    drop(lock);
    let lock = NetnsLock::exclusive()?;
    let device = match host.link(&conf.bridge).map_err(kernel)? {
        Some(found) => adopt(host, conf, found)?,
        None => {
            undo.push("the new bridge", || remove_if_unused(&conf.bridge));
            create(host, conf)?
        }
    };
    Ok((device, lock))
}

/// Whether an ADD would find a usable bridge.
///
/// # Errors
/// Code 50 when the name belongs to a device of another kind.
pub fn status(conf: &BridgeConf) -> Result<()> {
    let found = Handle::new()
        .and_then(|mut host| host.link(&conf.bridge))
        .map_err(kernel)?;
    match found {
        Some(found) => {
            require_bridge(&found).map_err(|error| Error::new(Code::NotAvailable, error.msg))
        }
        None => Ok(()),
    }
}

fn require_bridge(found: &Link) -> Result<()> {
    let kind = found.kind.as_deref().unwrap_or("physical device");
    match kind {
        "bridge" => Ok(()),
        _ => Err(Error::new(
            Code::InvalidConfig,
            format!(
                "\"bridge\": {:?} already exists but is not a bridge, it is a {kind}: choose another name, or remove it with `ip link delete {}`",
                found.name, found.name
            ),
        )),
    }
}

/// Takes a bridge that is there. One of ours is put right; somebody else's is only used, except that
/// it is brought up, and made promiscuous where the configuration says so.
fn adopt(host: &mut Handle, conf: &BridgeConf, found: Link) -> Result<BridgeDevice> {
    require_bridge(&found)?;
    let ours = found.alias.as_deref() == Some(MARK);
    let mut changes = Vec::new();
    let mut mtu = found.mtu;
    if let Some(wanted) = conf.mtu.filter(|wanted| ours && *wanted != mtu) {
        changes.push(link::set_mtu(found.index, wanted));
        mtu = wanted;
    }
    if ours
        && conf.vlans.any()
        && !found
            .bridge
            .as_ref()
            .is_some_and(|bridge| bridge.vlan_filtering)
    {
        changes.push(link::set_vlan_filtering(found.index, true));
    }
    if conf.promisc && found.promiscuity == 0 {
        changes.push(link::set_promisc(found.index, true));
    }
    if !found.up {
        changes.push(link::set_up(found.index));
    }
    host.execute(changes).map_err(kernel)?;
    Ok(BridgeDevice {
        index: found.index,
        name: found.name,
        mac: found.mac.unwrap_or_default(),
        mtu,
    })
}

fn create(host: &mut Handle, conf: &BridgeConf) -> Result<BridgeDevice> {
    let mtu = match conf.mtu {
        Some(mtu) => mtu,
        None => uplink::mtu(host)?,
    };
    let new = link::Bridge {
        name: &conf.bridge,
        mtu: Some(mtu),
        vlan_filtering: conf.vlans.any(),
    };
    host.execute(vec![new.request()]).map_err(kernel)?;
    let made = host.link(&conf.bridge).map_err(kernel)?.ok_or_else(|| {
        Error::new(
            Code::Internal,
            format!("bridge {} vanished as soon as it was made", conf.bridge),
        )
    })?;
    // A bridge that nobody gave a MAC takes the lowest of its ports', and so changes with every pod.
    let mac = made.mac.unwrap_or_default();
    // A router must not configure itself by somebody else's router advertisements, and until its link-local address
    // has been probed (a second or two) it could not ask for the MACs of the pods that it forwards to.
    for key in ["accept_ra", "accept_dad"] {
        match sysctl::ensure(&format!("net/ipv6/conf/{}/{key}", conf.bridge), "0") {
            Err(error) if !error.is_not_found() => return Err(kernel(error)),
            _ => {}
        }
    }
    let mut changes = vec![
        link::set_alias(made.index, MARK),
        link::set_mac(made.index, mac),
    ];
    if conf.promisc {
        changes.push(link::set_promisc(made.index, true));
    }
    changes.push(link::set_up(made.index));
    host.execute(changes).map_err(kernel)?;
    Ok(BridgeDevice {
        index: made.index,
        name: made.name,
        mac,
        mtu,
    })
}

/// Undoes [`create`], unless another call has put a port on the bridge in the meantime.
fn remove_if_unused(name: &str) -> Result<()> {
    let _lock = NetnsLock::exclusive()?;
    let mut host = Handle::new().map_err(kernel)?;
    let Some(bridge) = host.link(name).map_err(kernel)? else {
        return Ok(());
    };
    let links = host.links().map_err(kernel)?;
    match links.iter().any(|port| port.master == Some(bridge.index)) {
        true => Ok(()),
        false => host
            .execute(vec![link::delete(bridge.index)])
            .map_err(kernel),
    }
}
