//! CHECK: whether what ADD made is still there, each finding in a sentence with its remedy.
//!
//! It never changes anything, and is tolerant of what others may rightly do to an interface: `tcpdump`
//! makes it promiscuous, `tuning` changes its MAC, `sbr` moves its routes to another table.

use cni::{AddResult, Call, Code, Error, Interface, Result, identity};
use netlink::{Handle, Link, RouteFilter};

use super::conf::BridgeConf;
use super::port;
use crate::error::kernel;
use crate::{mac_spoof, masquerade, pod, sandbox, subnet};

/// Compares the kernel's state with `prevResult` and the configuration.
///
/// # Errors
/// Code 7 without a `prevResult`; code 999 for the first thing found missing or different.
pub fn check(call: &Call, conf: &BridgeConf) -> Result<()> {
    let result = call.conf.prev_result.as_ref().ok_or_else(|| {
        Error::new(
            Code::InvalidConfig,
            "CHECK needs \"prevResult\", the result of ADD, in the configuration",
        )
    })?;
    let mut host = Handle::new().map_err(kernel)?;
    let bridge = check_bridge(&mut host, conf)?;
    check_port(&mut host, call, conf, &bridge)?;
    check_pod(call, conf, result)?;
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
    if veth.alias.as_deref() != Some(&port::alias(&call.conf.name, &call.attachment)) {
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

fn check_pod(call: &Call, conf: &BridgeConf, result: &AddResult) -> Result<()> {
    let netns = sandbox::open(call)?;
    let mut pod = Handle::in_netns(&netns).map_err(kernel)?;
    let name = &call.attachment.ifname;
    let eth = present(pod.link(name), &format!("container interface {name}"))?;
    if eth.kind.as_deref() != Some("veth") {
        return Err(broken(format!(
            "container interface {name} is not a veth any more"
        )));
    }
    if let Some(wanted) = container_interface(call, result) {
        let found = eth.mac.map(|mac| mac.to_string());
        if wanted
            .mac
            .as_ref()
            .is_some_and(|wanted| Some(wanted.to_ascii_lowercase()) != found)
        {
            return Err(broken(format!(
                "{name} has MAC {found:?} instead of {:?}",
                wanted.mac
            )));
        }
        if let Some(mtu) = wanted.mtu.or(conf.mtu).filter(|mtu| *mtu != eth.mtu) {
            return Err(broken(format!(
                "{name} has MTU {} instead of {mtu}: run `ip link set {name} mtu {mtu}` in the pod",
                eth.mtu
            )));
        }
    }
    if !conf.disable_container_interface && !eth.up {
        return Err(broken(format!(
            "{name} is down in the pod: run `ip link set {name} up` there"
        )));
    }
    let addresses = pod.addresses(Some(eth.index)).map_err(kernel)?;
    for ip in ours(call, result) {
        if !addresses.iter().any(|there| there.network == ip.address) {
            return Err(broken(format!(
                "{name} has lost its address {0}: run `ip address add {0} dev {name}` in the pod",
                ip.address
            )));
        }
    }
    check_routes(&mut pod, &eth, result)
}

fn check_routes(pod: &mut Handle, eth: &Link, result: &AddResult) -> Result<()> {
    let there = pod
        .routes(RouteFilter {
            dev: Some(eth.index),
            ..RouteFilter::default()
        })
        .map_err(kernel)?;
    let connected = result
        .ips
        .iter()
        .map(|ip| (subnet::of(ip.address), None, None));
    let given = pod::routes(eth.index, result);
    let given = given
        .iter()
        .map(|route| (subnet::of(route.dst), route.gw, route.table));
    for (dst, gw, table) in connected.chain(given) {
        let found = there.iter().any(|route| {
            subnet::of(route.dst) == dst
                && (gw.is_none() || route.gw == gw)
                && (table.is_none() || route.table == table)
        });
        if !found {
            return Err(broken(format!(
                "the pod has lost its route to {dst} by {}",
                eth.name
            )));
        }
    }
    Ok(())
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

/// The entry of the result that is this attachment's interface.
fn container_interface<'a>(call: &Call, result: &'a AddResult) -> Option<&'a Interface> {
    result
        .interfaces
        .iter()
        .find(|interface| is_container(call, interface))
}

fn is_container(call: &Call, interface: &Interface) -> bool {
    interface.name == call.attachment.ifname
        && interface
            .sandbox
            .as_deref()
            .is_some_and(|sandbox| !sandbox.is_empty())
}

/// The addresses of the result that stand on this attachment's interface, not on one that another
/// plugin of the chain made.
fn ours<'a>(call: &'a Call, result: &'a AddResult) -> impl Iterator<Item = &'a cni::IpConfig> {
    result.ips.iter().filter(move |ip| {
        ip.interface
            .and_then(|index| result.interfaces.get(index))
            .is_none_or(|interface| is_container(call, interface))
    })
}

fn present(found: netlink::Result<Option<Link>>, what: &str) -> Result<Link> {
    found
        .map_err(kernel)?
        .ok_or_else(|| broken(format!("{what} is gone: the pod must be made anew")))
}

fn broken(msg: impl Into<String>) -> Error {
    Error::new(Code::Internal, msg)
}
