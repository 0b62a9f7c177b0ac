//! Routes as the kernel has them, and where it would send a packet.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol};

use super::{MAIN_TABLE, Route, RouteFilter, RouteHop, family, route_address};
use crate::attributes::{each, ip, number, split};
use crate::error::Result;
use crate::request::emit;
use crate::socket::Socket;

pub(super) const RTM_GETROUTE: u16 = 26;
/// The kernel's own table of local and broadcast addresses (`RT_TABLE_LOCAL`).
const LOCAL_TABLE: u32 = 255;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

pub(super) const ABOUT: &str = "a route";
/// Length of `struct rtmsg`.
pub(super) const HEADER: usize = 12;
/// Length of `struct rtnexthop`.
const HOP_HEADER: usize = 8;

// include/uapi/linux/rtnetlink.h
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
const RTM_F_CLONED: u32 = 0x200;
const RTNH_F_ONLINK: u32 = 4;
pub(super) const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
pub(super) const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
pub(super) const RTA_TABLE: u16 = 15;
const RTA_NH_ID: u16 = 30;
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;

pub(crate) fn list(socket: &mut Socket, filter: RouteFilter) -> Result<Vec<Route>> {
    let mut message = RouteMessage::default();
    message.header.protocol = filter
        .protocol
        .map_or(RouteProtocol::Unspec, RouteProtocol::from);
    message
        .attributes
        .extend(filter.dev.map(RouteAttribute::Oif));
    message
        .attributes
        .extend(filter.table.map(RouteAttribute::Table));
    let routes = socket.dump(RTM_GETROUTE, &emit(&message), "routes", |_, payload| {
        let mut found = parse(payload)?;
        found.retain(|route| {
            let table = route.table.unwrap_or(MAIN_TABLE);
            filter.dev.is_none_or(|dev| route.dev == Some(dev))
                && filter
                    .protocol
                    .is_none_or(|protocol| route.protocol == Some(protocol))
                && filter
                    .table
                    .map_or(table != LOCAL_TABLE, |wanted| wanted == table)
        });
        Ok(Some(found))
    })?;
    Ok(routes.into_iter().flatten().collect())
}

pub(crate) fn lookup(socket: &mut Socket, destination: IpAddr) -> Result<Option<RouteHop>> {
    let mut message = RouteMessage::default();
    message.header.address_family = family(destination);
    message.header.destination_prefix_length = if destination.is_ipv4() { 32 } else { 128 };
    message
        .attributes
        .push(RouteAttribute::Destination(route_address(destination)));
    let hop = socket.get(
        RTM_GETROUTE,
        &emit(&message),
        || format!("route to {destination}"),
        |payload| {
            let (header, attributes) = split::<HEADER>(ABOUT, payload)?;
            let local = header[7] == RTN_LOCAL;
            let reachable = local || header[7] == RTN_UNICAST;
            let (mut dev, mut gw, mut src, mut mtu) = (None, None, None, None);
            each(ABOUT, attributes, &mut |kind, value| {
                match kind {
                    RTA_OIF => dev = Some(number(value)),
                    RTA_GATEWAY => gw = ip(value),
                    RTA_PREFSRC => src = ip(value),
                    RTA_METRICS => each(ABOUT, value, &mut |kind, value| {
                        if kind == RTAX_MTU {
                            mtu = Some(number(value)).filter(|mtu| *mtu > 0);
                        }
                        Ok(())
                    })?,
                    _ => {}
                }
                Ok(())
            })?;
            Ok(dev.filter(|_| reachable).map(|dev| RouteHop {
                dev,
                gw,
                src,
                local,
                mtu,
            }))
        },
    );
    match hop {
        Err(error) if error.errno().is_some_and(is_unreachable) => Ok(None),
        hop => hop.map(Option::flatten),
    }
}

fn is_unreachable(errno: nix::errno::Errno) -> bool {
    use nix::errno::Errno;
    matches!(
        errno,
        Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL
    )
}

/// Any address of a family, if it is one of IP's.
pub(super) fn any(family: u8) -> Option<IpAddr> {
    match family {
        AF_INET => Some([0, 0, 0, 0].into()),
        AF_INET6 => Some([0_u16; 8].into()),
        _ => None,
    }
}

/// A unicast route of IPv4 or IPv6, one for each of its equal-cost paths; nothing for every other.
pub(crate) fn parse(payload: &[u8]) -> Result<Vec<Route>> {
    let (header, attributes) = split::<HEADER>(ABOUT, payload)?;
    let [family, length, _, _, table, protocol, scope, kind, ..] = *header;
    let flags = number(&header[8..]);
    let Some(any) = any(family) else {
        return Ok(Vec::new());
    };
    if kind != RTN_UNICAST || flags & RTM_F_CLONED != 0 {
        return Ok(Vec::new());
    }
    let Ok(dst) = IpNetwork::new(any, length) else {
        return Ok(Vec::new());
    };
    let mut route = Route {
        table: Some(table.into()),
        scope: Some(scope),
        protocol: Some(protocol),
        onlink: flags & RTNH_F_ONLINK != 0,
        ..Route::to(dst)
    };
    let mut paths = Vec::new();
    each(ABOUT, attributes, &mut |kind, value| {
        match kind {
            RTA_MULTIPATH => paths = value.to_vec(),
            RTA_DST => {
                let network = ip(value).and_then(|ip| IpNetwork::new(ip, length).ok());
                route.dst = network.unwrap_or(dst);
            }
            RTA_GATEWAY => route.gw = ip(value),
            RTA_PREFSRC => route.src = ip(value),
            RTA_OIF => route.dev = Some(number(value)),
            RTA_TABLE => route.table = Some(number(value)),
            RTA_PRIORITY => route.priority = Some(number(value)),
            RTA_NH_ID => route.nexthop_id = Some(number(value)),
            RTA_METRICS => each(ABOUT, value, &mut |kind, value| {
                match kind {
                    RTAX_MTU => route.mtu = Some(number(value)),
                    RTAX_ADVMSS => route.advmss = Some(number(value)),
                    _ => {}
                }
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    if paths.is_empty() {
        return Ok(vec![route]);
    }
    along(&route, &paths)
}

/// The route along each of its paths (`struct rtnexthop`, each with attributes of its own).
fn along(route: &Route, mut paths: &[u8]) -> Result<Vec<Route>> {
    let mut routes = Vec::new();
    while !paths.is_empty() {
        let (header, _) = split::<HOP_HEADER>(ABOUT, paths)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]])).max(HOP_HEADER);
        let mut path = Route {
            gw: None,
            dev: Some(number(&header[4..])),
            onlink: u32::from(header[2]) & RTNH_F_ONLINK != 0,
            ..route.clone()
        };
        let attributes = paths.get(HOP_HEADER..length).unwrap_or_default();
        each(ABOUT, attributes, &mut |kind, value| {
            if kind == RTA_GATEWAY {
                path.gw = ip(value);
            }
            Ok(())
        })?;
        routes.push(path);
        paths = paths.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(routes)
}
