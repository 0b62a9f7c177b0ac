//! This node's place on the underlay: by which link, under which addresses, next to which networks.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink::{Handle, Route, RouteFilter};

use crate::config::Config;
use crate::names::PROTOCOL;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Index of the uplink.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its addresses that others can reach, at most one of each family, IPv4 first.
    pub endpoints: Vec<IpAddr>,
    /// The networks whose members are on-link there.
    pub on_link: Vec<IpNetwork>,
}

/// Overhead of VXLAN in bytes: outer IP header, UDP, VXLAN, inner Ethernet (RFC 7348).
const OVERHEAD_V4: u32 = 20 + 8 + 8 + 14;
const OVERHEAD_V6: u32 = 40 + 8 + 8 + 14;

impl Local {
    /// Looks at the kernel.
    ///
    /// # Errors
    /// A sentence that says what is missing, and what to do about it.
    pub fn find(handle: &mut Handle, config: &Config) -> Result<Self, String> {
        let main = RouteFilter {
            table: Some(netlink::route::MAIN_TABLE),
            ..RouteFilter::default()
        };
        let said = |error: netlink::Error| error.to_string();
        let link = match &config.underlay {
            Some(name) => handle
                .link(name)
                .map_err(said)?
                .ok_or_else(|| format!("\"underlay\": there is no interface {name}: name one of `ip link`, or plug it in"))?,
            None => {
                let routes = handle.routes(main).map_err(said)?;
                let index = default_device(&routes)
                    .ok_or("there is no default route to tell the underlay by: set \"underlay\" to the interface that leads to the other nodes")?;
                handle.link_by_index(index).map_err(said)?.ok_or("the uplink has just vanished")?
            }
        };
        let addresses = handle.addresses(Some(link.index)).map_err(said)?;
        let usable: Vec<IpNetwork> = addresses
            .iter()
            .filter(|address| !address.tentative && !address.duplicate)
            .map(|address| address.network)
            .filter(|network| is_reachable(network.ip()))
            .collect();
        let first = |v6| {
            usable
                .iter()
                .map(|network| network.ip())
                .find(|ip| ip.is_ipv6() == v6)
        };
        let endpoints: Vec<IpAddr> = [first(false), first(true)].into_iter().flatten().collect();
        if endpoints.is_empty() {
            return Err(format!(
                "the underlay {} has no address: give it one, or set \"underlay\" to another interface",
                link.name
            ));
        }
        let on_link = handle
            .routes(RouteFilter {
                dev: Some(link.index),
                ..main
            })
            .map_err(said)?
            .into_iter()
            .filter(|route| {
                route.gw.is_none() && route.nexthop_id.is_none() && route.protocol != Some(PROTOCOL)
            })
            .map(|route| route.dst)
            .filter(|dst| dst.prefix() > 0 && is_reachable(dst.network()))
            .collect();
        Ok(Self {
            index: link.index,
            name: link.name,
            mtu: link.mtu,
            endpoints,
            on_link,
        })
    }

    /// The address that VXLAN packets carry as their source: IPv4 where the node has it.
    pub fn vtep(&self) -> Option<IpAddr> {
        self.endpoints.first().copied()
    }

    /// The MTU that is left inside of VXLAN, in bytes.
    pub fn overlay_mtu(&self) -> u32 {
        let overhead = match self.vtep() {
            Some(IpAddr::V6(_)) => OVERHEAD_V6,
            _ => OVERHEAD_V4,
        };
        self.mtu.saturating_sub(overhead)
    }

    /// Whether an address is in the same layer 2 network.
    pub fn is_on_link(&self, ip: IpAddr) -> bool {
        self.on_link.iter().any(|network| network.contains(ip))
    }
}

fn default_device(routes: &[Route]) -> Option<u32> {
    let defaults = routes.iter().filter(|route| route.dst.prefix() == 0);
    let best =
        defaults.min_by_key(|route| (route.dst.is_ipv6(), route.priority.unwrap_or_default()));
    best.and_then(|route| route.dev)
}

fn is_reachable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local() && !v6.is_multicast(),
    }
}
