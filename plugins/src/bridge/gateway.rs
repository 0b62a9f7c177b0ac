//! The gateway: which addresses the bridge is to carry, which default routes the pod gets.
//!
//! What is wrong is found by [`plan`], before anything depends on it; [`Gateways::apply`] comes last in
//! ADD, because other pods may use a gateway from the moment it is there and it is never taken back.

use std::net::IpAddr;

use cni::{AddResult, Code, Error, Interface, Result, Route};
use ipnetwork::IpNetwork;
use netlink::{Handle, address};

use super::conf::BridgeConf;
use super::device::BridgeDevice;
use crate::error::kernel;
use crate::{forwarding, subnet};

/// The gateway addresses that the host needs for one pod.
#[derive(Debug, Default)]
pub struct Gateways {
    wanted: Vec<IpNetwork>,
    /// What the bridge carried when the plan was made.
    there: Vec<IpNetwork>,
}

/// Completes `result` with the gateways and default routes that the configuration asks for, and
/// checks that the bridge can carry the addresses.
///
/// # Errors
/// Code 7 when the bridge carries an address that does not go together with a gateway and
/// `forceAddress` is not set.
pub fn plan(
    host: &mut Handle,
    conf: &BridgeConf,
    bridge: &BridgeDevice,
    result: &mut AddResult,
) -> Result<Gateways> {
    let mut wanted: Vec<IpNetwork> = Vec::new();
    for ip in &mut result.ips {
        ip.gateway = conf.gateway_of(ip);
        let Some(gateway) = ip.gateway.filter(|_| conf.is_gateway) else {
            continue;
        };
        let network = IpNetwork::new(gateway, ip.address.prefix()).map_err(|error| {
            Error::new(
                Code::InvalidConfig,
                format!("gateway {gateway} of {}: {error}", ip.address),
            )
        })?;
        if !wanted.contains(&network) {
            wanted.push(network);
        }
    }
    if conf.is_default_gateway {
        add_default_routes(result);
    }
    let there = match conf.vlans.access {
        None if !wanted.is_empty() => networks_of(host, bridge.index)?,
        _ => Vec::new(),
    };
    let gateways = Gateways { wanted, there };
    if !conf.force_address {
        gateways.refuse_conflicts(&bridge.name)?;
    }
    Ok(gateways)
}

/// The subnets that a device carries, the kernel's own link-local ones apart.
fn networks_of(host: &mut Handle, index: u32) -> Result<Vec<IpNetwork>> {
    let addresses = host.addresses(Some(index)).map_err(kernel)?;
    let networks = addresses.into_iter().map(|address| address.network);
    Ok(networks
        .filter(|network| !is_link_local(network.ip()))
        .collect())
}

/// One default route by the gateway for each family that has a gateway and no default route yet.
fn add_default_routes(result: &mut AddResult) {
    for any in [subnet::ANY_V4, subnet::ANY_V6] {
        let of_family = |ip: IpAddr| subnet::same_family(ip, any.ip());
        let gateway = result
            .ips
            .iter()
            .filter_map(|ip| ip.gateway)
            .find(|gateway| of_family(*gateway));
        if let Some(gateway) = gateway
            && !result.routes.iter().any(|route| route.dst == any)
        {
            result.routes.push(Route {
                gw: Some(gateway),
                ..Route::to(any)
            });
        }
    }
}

impl Gateways {
    /// Puts the addresses on the bridge, or on `<bridge>.<vlan>` where the pod is in a VLAN, and turns
    /// forwarding on for their families. Returns the VLAN's interface for the result.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn apply(
        mut self,
        host: &mut Handle,
        conf: &BridgeConf,
        bridge: &BridgeDevice,
    ) -> Result<Option<Interface>> {
        if self.wanted.is_empty() {
            return Ok(None);
        }
        forwarding::enable(&self.wanted)?;
        let (index, interface) = match conf.vlans.access {
            Some(vlan) => {
                let (index, interface) = super::vlan_gateway::ensure(host, bridge, vlan)?;
                self.there = networks_of(host, index)?;
                (index, Some(interface))
            }
            None => (bridge.index, None),
        };
        let mut batch = Vec::new();
        if conf.force_address {
            let in_the_way = self.conflicts().map(|old| address::delete(index, old));
            batch.extend(in_the_way);
        }
        let flags = address::Flags {
            nodad: true,
            ..Default::default()
        };
        let missing = self
            .wanted
            .iter()
            .filter(|wanted| !self.there.contains(wanted));
        batch.extend(missing.map(|wanted| address::add(index, *wanted, flags)));
        // Another ADD may have been quicker with the same gateway.
        for request in batch {
            match host.execute(vec![request]) {
                Err(error) if !(error.is_exists() || error.is_not_found()) => {
                    return Err(kernel(error));
                }
                _ => {}
            }
        }
        Ok(interface)
    }

    /// Addresses of the device that do not go together with a gateway: the same subnet under another
    /// address, or a subnet that overlaps. Disjoint subnets live side by side.
    fn conflicts(&self) -> impl Iterator<Item = IpNetwork> {
        let others = self.there.iter().filter(|old| !self.wanted.contains(old));
        others
            .filter(|old| self.wanted.iter().any(|wanted| overlap(**old, *wanted)))
            .copied()
    }

    fn refuse_conflicts(&self, bridge: &str) -> Result<()> {
        let Some(old) = self.conflicts().next() else {
            return Ok(());
        };
        let wanted = self
            .wanted
            .iter()
            .find(|wanted| overlap(old, **wanted))
            .copied()
            .unwrap_or(old);
        Err(Error::new(
            Code::InvalidConfig,
            format!(
                "\"{bridge}\" already has an IP address different from {wanted}: it has {old}; set \"forceAddress\": true to replace it, or run `ip address delete {old} dev {bridge}`"
            ),
        ))
    }
}

fn overlap(a: IpNetwork, b: IpNetwork) -> bool {
    a.is_ipv4() == b.is_ipv4() && (a.contains(b.network()) || b.contains(a.network()))
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}
