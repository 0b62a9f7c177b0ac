//! The pod's end of an attachment: addresses, up, routes, in one batch of netlink messages.

pub mod check;

use std::net::IpAddr;

use cni::{AddResult, Result};
use ipnetwork::IpNetwork;
use netlink::netns::Netns;
use netlink::{Handle, address, link, route, sysctl};

use crate::error::kernel;
use crate::subnet::{self, same_family};

/// `RT_SCOPE_LINK`; what is narrower, `host` and `nowhere`, has higher numbers.
const LINK_SCOPE: u8 = 253;

/// How the pod's interface is to be brought up.
#[derive(Debug, Clone, Copy)]
pub struct PodLink<'a> {
    /// The namespace that the interface stands in.
    pub netns: &'a Netns,
    /// The interface's index there.
    pub index: u32,
    /// Its name there.
    pub name: &'a str,
    /// Let IPv6 probe for duplicates (`enabledad`).
    pub duplicate_address_detection: bool,
    /// Reach even the neighbours in the own subnet by way of the gateway.
    pub by_gateway: bool,
}

impl PodLink<'_> {
    /// Gives the interface the addresses and routes of `result` and brings it up, as one batch on
    /// `pod`, a handle in the pod's namespace.
    ///
    /// # Errors
    /// The kernel's refusal of the first request that failed.
    pub fn configure(&self, pod: &mut Handle, result: &AddResult) -> Result<()> {
        if result.ips.iter().any(|ip| ip.address.is_ipv6()) {
            self.netns.run(|| self.prepare_ipv6()).map_err(kernel)??;
        }
        let flags = address::Flags {
            nodad: !self.duplicate_address_detection,
            optimistic: self.duplicate_address_detection,
            noprefixroute: self.by_gateway,
        };
        // Neighbours hear of the address when the link comes up: it may have been another pod's.
        let mut batch = vec![link::arp_notify(self.index)];
        batch.extend(
            result
                .ips
                .iter()
                .map(|ip| address::add(self.index, ip.address, flags)),
        );
        batch.push(link::set_up(self.index));
        if self.by_gateway {
            let routes = routes_by_gateway(self.index, result);
            batch.extend(routes.iter().map(route::Route::add_path));
        }
        batch.extend(
            routes(self.index, result)
                .iter()
                .map(route::Route::add_path),
        );
        pod.execute(batch).map_err(kernel)
    }

    /// The IPv6 settings that have no netlink attribute.
    fn prepare_ipv6(&self) -> Result<()> {
        // Optimistic addresses (RFC 4429) are usable while they are probed: no second of waiting.
        const PROBING: &[(&str, &str)] = &[
            ("accept_dad", "1"),
            ("optimistic_dad", "1"),
            ("use_optimistic", "1"),
        ];
        const ALWAYS: &[(&str, &str)] = &[("disable_ipv6", "0"), ("keep_addr_on_down", "1")];
        let probing = if self.duplicate_address_detection {
            PROBING
        } else {
            &[]
        };
        // The host's own addresses are reached by way of lo, whose IPv6 may be off as well.
        sysctl::ensure("net/ipv6/conf/lo/disable_ipv6", "0").map_err(kernel)?;
        for (key, value) in ALWAYS.iter().chain(probing) {
            let key = format!("net/ipv6/conf/{}/{key}", self.name);
            sysctl::ensure(&key, value).map_err(kernel)?;
        }
        Ok(())
    }
}

/// Routes to the gateways, which are all that is on the link, and by them to the subnets of the addresses.
pub fn routes_by_gateway(index: u32, result: &AddResult) -> Vec<route::Route> {
    let mut routes: Vec<route::Route> = Vec::new();
    let mut add = |route: route::Route| {
        if !routes.iter().any(|there| there.dst == route.dst) {
            routes.push(route);
        }
    };
    let with_gateway = || {
        let ips = result.ips.iter();
        ips.filter_map(|ip| ip.gateway.map(|gateway| (ip.address, gateway)))
    };
    for (address, gateway) in with_gateway() {
        add(route::Route {
            dev: Some(index),
            src: Some(address.ip()),
            ..route::Route::to(IpNetwork::from(gateway))
        });
    }
    for (address, gateway) in with_gateway().filter(|(address, _)| !subnet::is_host(*address)) {
        add(route::Route {
            gw: Some(gateway),
            dev: Some(index),
            src: Some(address.ip()),
            ..route::Route::to(subnet::of(address))
        });
    }
    routes
}

/// The routes of `result` as the kernel is to have them: a route without a gateway goes by the first
/// gateway of its family, and is on-link where there is none or where its scope says so.
pub fn routes(index: u32, result: &AddResult) -> Vec<route::Route> {
    result
        .routes
        .iter()
        .map(|wanted| route::Route {
            gw: wanted.gw.or_else(|| match wanted.scope {
                Some(LINK_SCOPE..) => None,
                _ => first_gateway(result, wanted.dst.ip()),
            }),
            dev: Some(index),
            table: wanted.table,
            scope: wanted.scope,
            mtu: wanted.mtu,
            advmss: wanted.advmss,
            priority: wanted.priority,
            ..route::Route::to(wanted.dst)
        })
        .collect()
}

fn first_gateway(result: &AddResult, family_of: IpAddr) -> Option<IpAddr> {
    result
        .ips
        .iter()
        .filter_map(|ip| ip.gateway)
        .find(|gateway| same_family(*gateway, family_of))
}
