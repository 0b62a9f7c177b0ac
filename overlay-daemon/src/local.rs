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
    /// Where packets that leave by it go.
    pub routes: Vec<UplinkRoute>,
}

/// A route by the uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UplinkRoute {
    /// Its destination.
    pub dst: IpNetwork,
    /// Whether the destination is on-link, without a gateway.
    pub is_on_link: bool,
    /// The path's MTU in bytes, where it is not the link's.
    pub mtu: Option<u32>,
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
        let by_uplink = RouteFilter {
            dev: Some(link.index),
            ..main
        };
        let routes = handle.routes(by_uplink).map_err(said)?;
        let routes = routes
            .into_iter()
            .filter(|route| route.nexthop_id.is_none() && route.protocol != Some(PROTOCOL))
            .map(|route| UplinkRoute {
                dst: route.dst,
                is_on_link: route.gw.is_none() && route.dst.prefix() > 0,
                mtu: route.mtu,
            })
            .collect();
        Ok(Self {
            index: link.index,
            name: link.name,
            mtu: link.mtu,
            endpoints,
            routes,
        })
    }

    /// The address that VXLAN packets carry as their source: IPv4 where the node has it.
    pub fn vtep(&self) -> Option<IpAddr> {
        self.endpoints.first().copied()
    }

    /// The MTU that is left inside of VXLAN, in bytes.
    pub fn overlay_mtu(&self) -> u32 {
        self.mtu.saturating_sub(self.overhead())
    }

    /// The MTU of the path to an underlay address where it is less than the link's, in bytes.
    pub fn path_mtu(&self, ip: IpAddr) -> Option<u32> {
        let limit = self.route_to(ip).and_then(|route| route.mtu);
        limit.filter(|mtu| *mtu < self.mtu)
    }

    /// The same, less what VXLAN takes of it.
    pub fn overlay_path_mtu(&self, ip: IpAddr) -> Option<u32> {
        self.path_mtu(ip)
            .map(|mtu| mtu.saturating_sub(self.overhead()))
    }

    /// Whether an address is in the same layer 2 network.
    pub fn is_on_link(&self, ip: IpAddr) -> bool {
        self.route_to(ip).is_some_and(|route| route.is_on_link)
    }

    fn route_to(&self, ip: IpAddr) -> Option<&UplinkRoute> {
        let matching = self.routes.iter().filter(|route| route.dst.contains(ip));
        matching.max_by_key(|route| route.dst.prefix())
    }

    fn overhead(&self) -> u32 {
        match self.vtep() {
            Some(IpAddr::V6(_)) => OVERHEAD_V6,
            _ => OVERHEAD_V4,
        }
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
