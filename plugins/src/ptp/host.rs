//! The host's side of a pair: the gateway's address on the host's end, and a route to each address of the pod.

use std::net::IpAddr;

use cni::{AddResult, Code, Error, Result};
use ipnetwork::IpNetwork;
use netlink::{Handle, Link, Route, RouteFilter, address, link, sysctl};

use crate::error::kernel;
use crate::pod::check::broken;
use crate::{subnet, veth};

/// Fills in the gateways that IPAM left out: the first address of the subnet.
///
/// # Errors
/// Code 7 where there is no address left for a gateway.
pub fn choose_gateways(result: &mut AddResult) -> Result<()> {
    for ip in &mut result.ips {
        let own = ip.address.ip();
        let gateway = ip.gateway.or_else(|| {
            let first = subnet::first_host(ip.address);
            ip.address.contains(first).then_some(first)
        });
        match gateway.filter(|gateway| *gateway != own) {
            Some(gateway) => ip.gateway = Some(gateway),
            None => {
                return Err(Error::new(
                    Code::InvalidConfig,
                    format!(
                        "IPAM gave {} with {}, and the host's end needs an address of its own: add \"gateway\" to \"ipam\"",
                        ip.address,
                        if ip.gateway.is_some() {
                            "itself as the gateway"
                        } else {
                            "no gateway"
                        },
                    ),
                ));
            }
        }
    }
    Ok(())
}

/// Gives the host's end the gateways' addresses, brings it up and routes to the pod's addresses by it.
///
/// # Errors
/// Code 4 when an address is another pod's; otherwise what the kernel said.
pub fn configure(host: &mut Handle, name: &str, result: &AddResult) -> Result<()> {
    let index = veth::index_of(host, name)?;
    if result.ips.iter().any(|ip| ip.address.is_ipv6()) {
        // Until its link-local address has been probed, a second or two, it could not ask for the pod's MAC; and a
        // router must not configure itself by what a pod advertises.
        for key in ["accept_ra", "accept_dad"] {
            sysctl::ensure(&format!("net/ipv6/conf/{name}/{key}"), "0").map_err(kernel)?;
        }
    }
    let flags = address::Flags {
        nodad: true,
        ..address::Flags::default()
    };
    let mut gateways: Vec<IpAddr> = result.ips.iter().filter_map(|ip| ip.gateway).collect();
    gateways.sort_unstable();
    gateways.dedup();
    let mut batch: Vec<_> = gateways
        .into_iter()
        .map(|gateway| address::add(index, IpNetwork::from(gateway), flags))
        .collect();
    batch.push(link::set_up(index));
    host.execute(batch).map_err(kernel)?;
    for ip in &result.ips {
        let route = route(index, ip.address);
        match host.execute(vec![route.create()]) {
            Err(error) if error.is_exists() => return Err(taken(host, &route)),
            outcome => outcome.map_err(kernel)?,
        }
    }
    Ok(())
}

/// Whether the host's end still has what [`configure`] gave it.
///
/// # Errors
/// Code 999 for the first thing that is missing.
pub fn check(host: &mut Handle, veth: &Link, result: &AddResult) -> Result<()> {
    let name = &veth.name;
    if !veth.up {
        return Err(broken(format!(
            "{name} is down: run `ip link set {name} up`"
        )));
    }
    let addresses = host.addresses(Some(veth.index)).map_err(kernel)?;
    let by_veth = RouteFilter {
        dev: Some(veth.index),
        ..RouteFilter::default()
    };
    let routes = host.routes(by_veth).map_err(kernel)?;
    for ip in &result.ips {
        let lost = |gateway: &IpAddr| !addresses.iter().any(|there| there.network.ip() == *gateway);
        if let Some(gateway) = ip.gateway.filter(lost) {
            return Err(broken(format!(
                "{name} has lost the gateway's address {gateway}: run `ip address add {gateway} dev {name}`"
            )));
        }
        let wanted = route(veth.index, ip.address);
        if !routes.iter().any(|there| there.dst == wanted.dst) {
            return Err(broken(format!(
                "the host has lost its route to {0}: run `ip route add {0} dev {name}`",
                ip.address.ip()
            )));
        }
        let forwarding = if ip.address.is_ipv6() {
            "net/ipv6/conf/all/forwarding"
        } else {
            "net/ipv4/ip_forward"
        };
        if sysctl::get(forwarding).map_err(kernel)? == "0" {
            return Err(broken(format!(
                "the host does not forward any more: run `sysctl -w {forwarding}=1`"
            )));
        }
    }
    Ok(())
}

fn route(index: u32, address: IpNetwork) -> Route {
    Route {
        dev: Some(index),
        ..Route::to(IpNetwork::from(address.ip()))
    }
}

/// Why there is a route already.
fn taken(host: &mut Handle, route: &Route) -> Error {
    let there = host.routes(RouteFilter::default()).unwrap_or_default();
    let other = there.iter().find(|there| there.dst == route.dst);
    let dev = other
        .and_then(|there| host.link_by_index(there.dev?).ok().flatten())
        .map_or_else(
            || "another device".to_owned(),
            |link| match link.alias {
                Some(alias) => format!("{} ({alias})", link.name),
                None => link.name,
            },
        );
    Error::new(
        Code::InvalidEnvironment,
        format!(
            "the host reaches {} by {dev} already: give this pod another address, or delete what has that one",
            route.dst.ip()
        ),
    )
}
