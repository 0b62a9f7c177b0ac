//! Routes as the kernel has them, and where it would send a packet.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_core::Parseable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHop,
    RouteNextHopFlags, RouteProtocol, RouteType,
};

use super::{MAIN_TABLE, Route, RouteFilter, RouteHop, family, route_address};
use crate::error::{Error, Result};
use crate::request::emit;
use crate::socket::Socket;

const RTM_GETROUTE: u16 = 26;
/// The kernel's own table of local and broadcast addresses (`RT_TABLE_LOCAL`).
const LOCAL_TABLE: u32 = 255;

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
            let message = RouteMessage::parse(payload).map_err(Error::decode("a route"))?;
            let local = message.header.kind == RouteType::Local;
            let reachable = local || message.header.kind == RouteType::Unicast;
            let (mut dev, mut gw, mut src) = (None, None, None);
            for attribute in message.attributes {
                match attribute {
                    RouteAttribute::Oif(index) => dev = Some(index),
                    RouteAttribute::Gateway(address) => gw = ip(&address),
                    RouteAttribute::PrefSource(address) => src = ip(&address),
                    _ => {}
                }
            }
            Ok(dev.filter(|_| reachable).map(|dev| RouteHop {
                dev,
                gw,
                src,
                local,
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

/// A unicast route of IPv4 or IPv6, one for each of its equal-cost paths; nothing for every other.
fn parse(payload: &[u8]) -> Result<Vec<Route>> {
    let message = RouteMessage::parse(payload).map_err(Error::decode("a route"))?;
    let header = message.header;
    let any: IpAddr = match header.address_family {
        AddressFamily::Inet => [0, 0, 0, 0].into(),
        AddressFamily::Inet6 => [0_u16; 8].into(),
        _ => return Ok(Vec::new()),
    };
    if header.kind != RouteType::Unicast || header.flags.contains(RouteFlags::Cloned) {
        return Ok(Vec::new());
    }
    let Ok(dst) = IpNetwork::new(any, header.destination_prefix_length) else {
        return Ok(Vec::new());
    };
    let mut route = Route {
        table: Some(header.table.into()),
        scope: Some(header.scope.into()),
        protocol: Some(header.protocol.into()),
        onlink: header.flags.contains(RouteFlags::Onlink),
        ..Route::to(dst)
    };
    let mut paths = Vec::new();
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::MultiPath(hops) => paths = hops,
            RouteAttribute::Destination(address) => {
                let network = ip(&address).and_then(|ip| IpNetwork::new(ip, dst.prefix()).ok());
                route.dst = network.unwrap_or(dst);
            }
            RouteAttribute::Gateway(address) => route.gw = ip(&address),
            RouteAttribute::PrefSource(address) => route.src = ip(&address),
            RouteAttribute::Oif(index) => route.dev = Some(index),
            RouteAttribute::Table(table) => route.table = Some(table),
            RouteAttribute::Priority(priority) => route.priority = Some(priority),
            RouteAttribute::NhId(id) => route.nexthop_id = Some(id),
            RouteAttribute::Metrics(metrics) => {
                for metric in metrics {
                    match metric {
                        RouteMetric::Mtu(mtu) => route.mtu = Some(mtu),
                        RouteMetric::Advmss(advmss) => route.advmss = Some(advmss),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if paths.is_empty() {
        return Ok(vec![route]);
    }
    Ok(paths.iter().map(|path| along(&route, path)).collect())
}

/// The route along one of its paths.
fn along(route: &Route, path: &RouteNextHop) -> Route {
    let gateway = path
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Gateway(address) => ip(address),
            _ => None,
        });
    Route {
        gw: gateway,
        dev: Some(path.interface_index),
        onlink: path.flags.contains(RouteNextHopFlags::Onlink),
        ..route.clone()
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}
