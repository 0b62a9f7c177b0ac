//! Routes.

pub(crate) mod read;
pub(crate) mod refusing;

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric,
    RouteProtocol, RouteScope, RouteType,
};

pub(crate) use self::read::{list, lookup};
pub(crate) use self::refusing::list as list_refusing;
pub use self::refusing::{Refusal, RefusingRoute};
use crate::request::Request;

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;

/// Main table (`RT_TABLE_MAIN`), which a route without a table goes to.
pub const MAIN_TABLE: u32 = 254;

/// A unicast route, to be made or as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination; host bits are ignored.
    pub dst: IpNetwork,
    /// Gateway.
    pub gw: Option<IpAddr>,
    /// Index of the link by which to leave.
    pub dev: Option<u32>,
    /// Routing table; the main one where `None`.
    pub table: Option<u32>,
    /// Scope (`RT_SCOPE_…`); where `None`, link for a route without a gateway and universe for others.
    pub scope: Option<u8>,
    /// Path MTU in bytes.
    pub mtu: Option<u32>,
    /// Maximum segment size to advertise, in bytes.
    pub advmss: Option<u32>,
    /// Metric: of two routes to one destination the lower one counts.
    pub priority: Option<u32>,
    /// Source address to prefer.
    pub src: Option<IpAddr>,
    /// Who made it (`RTPROT_…`); `boot`, as for `ip route`, where `None`.
    pub protocol: Option<u8>,
    /// Take the gateway for a neighbour even if no address of the link says so.
    pub onlink: bool,
    /// The nexthop object that says where it goes, instead of `gw` and `dev`.
    pub nexthop_id: Option<u32>,
}

/// Which routes to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteFilter {
    /// Only those that leave by this link.
    pub dev: Option<u32>,
    /// Only those of this table.
    pub table: Option<u32>,
    /// Only those that this protocol made.
    pub protocol: Option<u8>,
}

/// Where a packet would go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteHop {
    /// Index of the link by which it would leave.
    pub dev: u32,
    /// Gateway that it would be handed to; none when the destination is a neighbour.
    pub gw: Option<IpAddr>,
    /// Source address that it would carry.
    pub src: Option<IpAddr>,
    /// Whether it would arrive at this host.
    pub local: bool,
    /// The largest packet in bytes that the route takes, where it is not the link's: as the route says, or as was learned
    /// on the way.
    pub mtu: Option<u32>,
}

impl Route {
    /// A route to `dst`; everything else is to be filled in.
    pub fn to(dst: IpNetwork) -> Self {
        Self {
            dst,
            gw: None,
            dev: None,
            table: None,
            scope: None,
            mtu: None,
            advmss: None,
            priority: None,
            src: None,
            protocol: None,
            onlink: false,
            nexthop_id: None,
        }
    }

    /// Adds the route, beside others to the same destination if they lead elsewhere (equal-cost paths);
    /// the very same route is an error. Equals `ip route prepend`, for IPv6 `ip route append`.
    pub fn add_path(&self) -> Request {
        Request::new(
            RTM_NEWROUTE,
            NLM_F_CREATE,
            &self.message(),
            "add",
            self.object(),
        )
    }

    /// Adds the route; one to the same destination with the same metric, anybody's, is an error. Equals
    /// `ip route add`.
    pub fn create(&self) -> Request {
        Request::new(
            RTM_NEWROUTE,
            NLM_F_CREATE | NLM_F_EXCL,
            &self.message(),
            "create",
            self.object(),
        )
    }

    /// Adds the route, or replaces the one to the same destination with the same metric. Equals
    /// `ip route replace`.
    pub fn replace(&self) -> Request {
        Request::new(
            RTM_NEWROUTE,
            NLM_F_CREATE | NLM_F_REPLACE,
            &self.message(),
            "replace",
            self.object(),
        )
    }

    /// Deletes the route. Equals `ip route delete`.
    pub fn delete(&self) -> Request {
        Request::new(RTM_DELROUTE, 0, &self.message(), "delete", self.object())
    }

    fn object(&self) -> String {
        match (self.gw, self.nexthop_id) {
            (Some(gw), _) => format!("route {} via {gw}", self.dst),
            (None, Some(id)) => format!("route {} by nexthop {id}", self.dst),
            (None, None) => format!("route {}", self.dst),
        }
    }

    fn message(&self) -> RouteMessage {
        let network = self.dst.network();
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: family(network),
            destination_prefix_length: self.dst.prefix(),
            protocol: self
                .protocol
                .map_or(RouteProtocol::Boot, RouteProtocol::from),
            scope: self
                .scope
                .map_or_else(|| self.default_scope(), RouteScope::from),
            kind: RouteType::Unicast,
            // The real table stands in its attribute: this field has only eight bits.
            table: RouteHeader::RT_TABLE_UNSPEC,
            ..RouteHeader::default()
        };
        if self.onlink && self.nexthop_id.is_none() {
            message.header.flags = RouteFlags::Onlink;
        }
        let attributes = &mut message.attributes;
        if self.dst.prefix() > 0 {
            attributes.push(RouteAttribute::Destination(route_address(network)));
        }
        attributes.push(RouteAttribute::Table(self.table.unwrap_or(MAIN_TABLE)));
        // The kernel tells both of a nexthop object, and takes only one of them.
        let (gw, dev) = match self.nexthop_id {
            None => (self.gw, self.dev),
            Some(_) => (None, None),
        };
        attributes.extend(gw.map(|gw| RouteAttribute::Gateway(route_address(gw))));
        attributes.extend(dev.map(RouteAttribute::Oif));
        attributes.extend(self.priority.map(RouteAttribute::Priority));
        attributes.extend(
            self.src
                .map(|src| RouteAttribute::PrefSource(route_address(src))),
        );
        attributes.extend(self.nexthop_id.map(RouteAttribute::NhId));
        let mut metrics = Vec::new();
        metrics.extend(self.mtu.map(RouteMetric::Mtu));
        metrics.extend(self.advmss.map(RouteMetric::Advmss));
        if !metrics.is_empty() {
            attributes.push(RouteAttribute::Metrics(metrics));
        }
        message
    }

    fn default_scope(&self) -> RouteScope {
        // IPv6 knows no scopes: everything is universe.
        let direct = self.gw.is_none() && self.nexthop_id.is_none() && self.dst.is_ipv4();
        if direct {
            RouteScope::Link
        } else {
            RouteScope::Universe
        }
    }
}

fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

fn route_address(ip: IpAddr) -> RouteAddress {
    match ip {
        IpAddr::V4(v4) => RouteAddress::Inet(v4),
        IpAddr::V6(v6) => RouteAddress::Inet6(v6),
    }
}
