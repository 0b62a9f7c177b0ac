//! CHECK of what the host has for a pod: bridge, port, gateways. It never changes anything.

use cni::{AddResult, Call, Result, identity};
use netlink::{Handle, Link};

use super::conf::BridgeConf;
use crate::error::kernel;
use crate::pod::check::{Expected, broken, compare, ours, present, previous};
use crate::veth;
use crate::{mac_spoof, masquerade};

/// Compares the kernel's state with `prevResult` and the configuration.
///
/// # Errors
/// Code 7 without a `prevResult`; code 999 for the first thing found missing or different.
pub fn check(call: &Call, conf: &BridgeConf) -> Result<()> {
    let result = previous(call)?;
    let mut host = Handle::new().map_err(kernel)?;
    let bridge = check_bridge(&mut host, conf)?;
    check_port(&mut host, call, conf, &bridge)?;
    let expected = Expected {
        kind: Some("veth"),
        mtu: conf.mtu,
        up: !conf.disable_container_interface,
    };
    compare(call, result, expected)?;
    if conf.is_gateway && conf.vlans.access.is_none() {
        check_gateways(&mut host, conf, &bridge, result)?;
    }
    if conf.ip_masq {
        let addresses: Vec<_> = ours(call, result).map(|ip| ip.address).collect();
        masquerade::check(call, &addresses)?;
    }
    if conf.mac_spoof_check {
        mac_spoof::check(call)?;
    }
    Ok(())
}

fn check_bridge(host: &mut Handle, conf: &BridgeConf) -> Result<Link> {
    let bridge = present(host.link(&conf.bridge), &format!("bridge {}", conf.bridge))?;
    if bridge.kind.as_deref() != Some("bridge") {
        return Err(broken(format!("{} is not a bridge any more", conf.bridge)));
    }
    if !bridge.up {
        return Err(broken(format!(
            "bridge {0} is down: run `ip link set {0} up`",
            conf.bridge
        )));
    }
    if conf.promisc && bridge.promiscuity == 0 {
        return Err(broken(format!(
            "bridge {0} is not promiscuous: run `ip link set {0} promisc on`",
            conf.bridge
        )));
    }
    Ok(bridge)
}

fn check_port(host: &mut Handle, call: &Call, conf: &BridgeConf, bridge: &Link) -> Result<()> {
    let name = identity::host_link_name(&call.attachment);
    let veth = present(host.link(&name), &format!("host interface {name}"))?;
    if veth.alias.as_deref() != Some(&veth::alias(&call.conf.name, &call.attachment)) {
        return Err(broken(format!(
            "host interface {name} carries the alias {:?}, so it is another attachment's",
            veth.alias
        )));
    }
    if veth.master != Some(bridge.index) {
        return Err(broken(format!(
            "{name} is not a port of {0}: run `ip link set {name} master {0}`",
            conf.bridge
        )));
    }
    if !veth.up {
        return Err(broken(format!(
            "{name} is down: run `ip link set {name} up`"
        )));
    }
    let state = veth.port.as_ref();
    for (key, wanted, found) in [
        (
            "hairpin",
            conf.hairpin,
            state.is_some_and(|port| port.hairpin),
        ),
        (
            "isolated",
            conf.isolated,
            state.is_some_and(|port| port.isolated),
        ),
    ] {
        if wanted && !found {
            return Err(broken(format!(
                "{key} is off on {name}: run `bridge link set dev {name} {key} on`"
            )));
        }
    }
    if conf.vlans.any() {
        check_vlans(host, &veth, conf)?;
    }
    Ok(())
}

fn check_vlans(host: &mut Handle, veth: &Link, conf: &BridgeConf) -> Result<()> {
    let there = host.port_vlans(veth.index).map_err(kernel)?;
    let trunk = conf.vlans.trunk.iter().flat_map(|(min, max)| *min..=*max);
    match conf
        .vlans
        .access
        .into_iter()
        .chain(trunk)
        .find(|id| !there.iter().any(|vlan| vlan.id == *id))
    {
        Some(id) => Err(broken(format!(
            "{0} does not carry VLAN {id}: run `bridge vlan add dev {0} vid {id}`",
            veth.name
        ))),
        None => Ok(()),
    }
}

fn check_gateways(
    host: &mut Handle,
    conf: &BridgeConf,
    bridge: &Link,
    result: &AddResult,
) -> Result<()> {
    let there = host.addresses(Some(bridge.index)).map_err(kernel)?;
    for ip in &result.ips {
        let gateway = conf.gateway_of(ip);
        if let Some(gateway) =
            gateway.filter(|gateway| !there.iter().any(|address| address.network.ip() == *gateway))
        {
            return Err(broken(format!(
                "{0} has lost the gateway address {gateway}: run `ip address add {gateway}/{1} dev {0}`",
                conf.bridge,
                ip.address.prefix()
            )));
        }
    }
    Ok(())
}
