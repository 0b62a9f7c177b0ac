//! What is to be where: a pure function of what the pod has.

use cni::IpConfig;
use netlink::route::MAIN_TABLE;
use netlink::{Route, Rule};

use super::PROTOCOL;
use super::conf::SbrConf;
use crate::subnet;

/// The first table that is taken if it is free; below are those that people number by hand.
const FIRST_TABLE: u32 = 100;

/// Metric of an IPv6 route that goes before those without one of their own (1024, `IP6_RT_PRIO_USER`).
const PREFERRED: u32 = 512;

/// What an ADD makes and takes away.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Routes to be in tables of their own, or to stay in the main one with a source.
    pub routes: Vec<Route>,
    /// Rules that lead there.
    pub rules: Vec<Rule>,
    /// Routes that leave the main table.
    pub moved: Vec<Route>,
}

/// What the pod has before.
#[derive(Debug)]
pub struct Found<'a> {
    /// Index of the interface.
    pub dev: u32,
    /// All its rules.
    pub rules: &'a [Rule],
    /// All its routes.
    pub routes: &'a [Route],
}

/// Plans for the addresses `ips` of one interface.
pub fn plan(conf: &SbrConf, ips: &[&IpConfig], found: &Found<'_>) -> Plan {
    let mut plan = Plan::default();
    let mut next = FIRST_TABLE;
    let own: Vec<&Route> = found
        .routes
        .iter()
        .filter(|route| is_own(route, found.dev))
        .collect();
    for ip in ips {
        let table = conf.table.unwrap_or_else(|| {
            let table = free_table(found, next);
            next = table + 1;
            table
        });
        plan.rules.push(Rule {
            source: ip.address.ip().into(),
            table,
            priority: None,
            protocol: Some(PROTOCOL),
        });
        if conf.table.is_some() {
            continue;
        }
        // Links before gateways, which are reached by them.
        let mut routes: Vec<Route> = own
            .iter()
            .filter(|route| belongs(route, ip, ips))
            .map(|route| Route {
                table: Some(table),
                ..(*route).clone()
            })
            .collect();
        routes.sort_by_key(|route| route.gw.is_some());
        if let Some(gateway) = conf.gateway_of(ip) {
            let any = if ip.address.is_ipv4() {
                subnet::ANY_V4
            } else {
                subnet::ANY_V6
            };
            let is_default = |route: &&Route| route.dst == any;
            let other = routes.iter().filter(is_default).count() > 0;
            if !routes
                .iter()
                .filter(is_default)
                .any(|route| route.gw == Some(gateway))
            {
                routes.push(Route {
                    gw: Some(gateway),
                    dev: Some(found.dev),
                    table: Some(table),
                    protocol: Some(PROTOCOL),
                    // Before another that was moved here: IPv4 takes the last that was added, IPv6 would take both.
                    priority: (other && any.is_ipv6()).then_some(PREFERRED),
                    // Where the gateway is in no subnet of the link, as with a lone /32.
                    onlink: !ip.address.contains(gateway),
                    ..Route::to(any)
                });
            }
        }
        plan.routes.append(&mut routes);
    }
    if conf.table.is_some() {
        return plan;
    }
    for route in own {
        plan.moved.push(route.clone());
        let source = ips.iter().find(|ip| is_subnet_of(route, ip));
        if let Some(ip) = source.filter(|_| conf.source_hints) {
            plan.routes.push(Route {
                src: Some(ip.address.ip()),
                protocol: Some(PROTOCOL),
                ..route.clone()
            });
        }
    }
    plan
}

/// Whether a route of the main table goes by the interface; what IPv6 does by itself stays where it is.
fn is_own(route: &Route, dev: u32) -> bool {
    let link_local =
        matches!(route.dst.ip(), std::net::IpAddr::V6(v6) if v6.is_unicast_link_local());
    route.dev == Some(dev) && route.table == Some(MAIN_TABLE) && !link_local
}

/// Whether a route is of use to packets from `ip`: it is that of its subnet, or its gateway is in there. One that is of
/// no address in particular is of use to all.
fn belongs(route: &Route, ip: &IpConfig, ips: &[&IpConfig]) -> bool {
    let with = |ip: &IpConfig| match (route.gw, route.src) {
        (Some(gw), _) => ip.address.contains(gw),
        (None, Some(src)) => ip.address.ip() == src,
        (None, None) => is_subnet_of(route, ip),
    };
    let same_family = route.dst.is_ipv4() == ip.address.is_ipv4();
    same_family && (with(ip) || !ips.iter().any(|other| with(other)))
}

fn is_subnet_of(route: &Route, ip: &IpConfig) -> bool {
    route.gw.is_none() && subnet::of(route.dst) == subnet::of(ip.address)
}

/// The first table from `number` on that nobody uses.
fn free_table(found: &Found<'_>, number: u32) -> u32 {
    let is_taken = |table: u32| {
        // 253 to 255 are the kernel's own.
        (253..=255).contains(&table)
            || found.rules.iter().any(|rule| rule.table == table)
            || found.routes.iter().any(|route| route.table == Some(table))
    };
    (number..).find(|table| !is_taken(*table)).unwrap_or(number)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ip(address: &str, gateway: Option<&str>) -> IpConfig {
        IpConfig {
            interface: None,
            address: address.parse().unwrap(),
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        }
    }

    fn route(dst: &str, gw: Option<&str>) -> Route {
        Route {
            gw: gw.map(|gw| gw.parse().unwrap()),
            dev: Some(2),
            table: Some(MAIN_TABLE),
            ..Route::to(dst.parse().unwrap())
        }
    }

    fn conf(table: Option<u32>, source_hints: bool) -> SbrConf {
        SbrConf::for_tests(table, source_hints)
    }

    fn tables(plan: &Plan) -> Vec<(String, u32)> {
        let routes = plan.routes.iter();
        routes
            .map(|route| (route.dst.to_string(), route.table.unwrap()))
            .collect()
    }

    #[test]
    fn each_address_has_a_table_with_its_own_routes() {
        let ips = [
            ip("10.1.0.5/24", Some("10.1.0.1")),
            ip("10.2.0.5/24", None),
            ip("fd01::5/64", None),
        ];
        let routes = [
            route("10.1.0.0/24", None),
            route("10.2.0.0/24", None),
            route("172.16.0.0/12", Some("10.2.0.1")),
            route("192.168.0.0/16", None),
            route("fd01::/64", None),
            route("fe80::/64", None),
            Route {
                dev: Some(3),
                ..route("10.3.0.0/24", None)
            },
        ];
        let taken = Rule {
            source: subnet::ANY_V4,
            table: 100,
            priority: None,
            protocol: None,
        };
        let found = Found {
            dev: 2,
            rules: &[taken],
            routes: &routes,
        };
        let plan = plan(&conf(None, false), &ips.each_ref(), &found);
        let wanted = [
            ("10.1.0.0/24", 101),
            ("192.168.0.0/16", 101),
            ("0.0.0.0/0", 101),
            ("10.2.0.0/24", 102),
            ("192.168.0.0/16", 102),
            ("172.16.0.0/12", 102),
            ("fd01::/64", 103),
        ];
        assert_eq!(
            tables(&plan),
            wanted.map(|(dst, table)| (dst.to_owned(), table))
        );
        assert_eq!(
            plan.rules.iter().map(|rule| rule.table).collect::<Vec<_>>(),
            [101, 102, 103]
        );
        assert_eq!(plan.moved.len(), 5);
    }

    #[test]
    fn a_table_that_is_named_is_filled_by_others() {
        let routes = [route("10.1.0.0/24", None)];
        let found = Found {
            dev: 2,
            rules: &[],
            routes: &routes,
        };
        let ips = [ip("10.1.0.5/24", Some("10.1.0.1"))];
        let plan = plan(&conf(Some(7), false), &ips.each_ref(), &found);
        assert_eq!((plan.routes, plan.moved), (vec![], vec![]));
        assert_eq!(plan.rules[0].table, 7);
    }

    #[test]
    fn hints_keep_the_own_subnet_reachable() {
        let routes = [
            route("10.1.0.0/24", None),
            route("0.0.0.0/0", Some("10.1.0.1")),
        ];
        let found = Found {
            dev: 2,
            rules: &[],
            routes: &routes,
        };
        let ips = [ip("10.1.0.5/24", Some("10.1.0.1"))];
        let plan = plan(&conf(None, true), &ips.each_ref(), &found);
        let kept: Vec<_> = plan
            .routes
            .iter()
            .filter(|route| route.table == Some(MAIN_TABLE))
            .collect();
        assert_eq!(kept.len(), 1);
        assert_eq!(
            (kept[0].dst, kept[0].src),
            (routes[0].dst, Some(ips[0].address.ip()))
        );
        assert_eq!(plan.moved.len(), 2);
    }
}
