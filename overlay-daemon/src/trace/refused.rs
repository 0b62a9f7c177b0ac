//! Routes that drop what they take: blackhole, unreachable, prohibit.

use std::net::IpAddr;

use netlink::{Handle, Refusal, RefusingRoute};

use super::Hop;
use crate::names::PROTOCOL;

/// The hop at which a packet ends that has no way out, if a route says so: of all tables, the longest prefix, then the
/// lowest metric.
pub(super) fn refused(handle: &mut Handle, place: &str, dst: IpAddr) -> Option<Hop> {
    let routes = handle.refusing_routes().ok()?;
    let matching = routes
        .into_iter()
        .filter(|route| route.dst.is_ipv4() == dst.is_ipv4() && route.dst.contains(dst));
    let route = matching.min_by_key(|route| (u8::MAX - route.dst.prefix(), route.priority))?;
    let hop = Hop::new(place, format!("route {}", route.dst), "").owned(route.protocol == PROTOCOL);
    let (reason, remedy) = explain(&route);
    Some(hop.blocked(reason, remedy))
}

fn explain(route: &RefusingRoute) -> (String, String) {
    let kind = route.refusal.as_str();
    let (a, told) = match route.refusal {
        Refusal::Blackhole => ("a", "and nobody is told"),
        Refusal::Unreachable => ("an", "and says that the host is unreachable"),
        Refusal::Prohibit => ("a", "and says that it is prohibited"),
    };
    let table = match route.table {
        netlink::route::MAIN_TABLE => String::new(),
        table => format!(" table {table}"),
    };
    (
        format!("{a} {kind} route drops what goes to {}, {told}", route.dst),
        format!(
            "ip route delete {kind} {}{table}; and end what makes it",
            route.dst
        ),
    )
}
