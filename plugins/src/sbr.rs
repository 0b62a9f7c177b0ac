//! `sbr`: packets are routed by their source, so that an answer leaves by the interface that was asked. The order of
//! the verbs stands here.
//!
//! Each address has a table of its own, with the routes that its interface had in the main one, and a rule that leads
//! there. Rules and routes that are made here bear a protocol number of ours; routes that were moved keep the one that
//! they had, and so can be put back.

mod conf;
mod plan;

use cni::{AddResult, Call, Code, Error, IpConfig, Plugin, Result};
use netlink::netns::Netns;
use netlink::route::MAIN_TABLE;
use netlink::{Handle, Link, Route, RouteFilter, Rule};

use self::conf::SbrConf;
use self::plan::{Found, Plan};
use crate::error::{kernel, unless_missing};
use crate::keys::invalid;
use crate::netns_lock::NetnsLock;
use crate::pod::check::{broken, ours, present};
use crate::undo::Undo;
use crate::{sandbox, subnet};

/// The plugin; its keys are in [`conf`].
#[derive(Debug)]
pub struct Sbr;

/// Who made a rule or a route (`RTPROT_…`): the same number as the overlay's.
const PROTOCOL: u8 = 176;

impl Plugin for Sbr {
    fn about(&self) -> &'static str {
        "CNI sbr plugin of Heddle"
    }

    fn add(&self, call: &Call) -> Result<AddResult> {
        let result = previous(call)?;
        let conf = SbrConf::of(call)?;
        if result.ips.is_empty() {
            return Err(invalid(
                "\"prevResult\" has no addresses, and sbr routes by them: put it behind a plugin with \"ipam\"",
            ));
        }
        let netns = sandbox::open(call)?;
        let mut undo = Undo::default();
        add(call, &conf, result, &netns, &mut undo).map_err(|error| undo.run(error))?;
        Ok(result.clone())
    }

    /// Nothing outlives the namespace; in there the rules are found by their sources.
    fn del(&self, call: &Call) -> Result<()> {
        match sandbox::open_if_there(call)? {
            Some(netns) => {
                let _lock = lock(&netns)?;
                remove(call, &netns, &[])
            }
            None => Ok(()),
        }
    }

    fn check(&self, call: &Call) -> Result<()> {
        let result = previous(call)?;
        let conf = SbrConf::of(call)?;
        let mut pod = Handle::in_netns(&sandbox::open(call)?).map_err(kernel)?;
        let name = &call.attachment.ifname;
        let eth = present(pod.link(name), &format!("container interface {name}"))?;
        let rules = pod.rules().map_err(kernel)?;
        let routes = pod.routes(by(&eth)).map_err(kernel)?;
        for ip in ours(call, result) {
            check(&conf, ip, &eth, &rules, &routes)?;
        }
        Ok(())
    }

    /// Nothing outlives its pod's namespace.
    fn gc(&self, _call: &Call) -> Result<()> {
        Ok(())
    }

    fn status(&self, call: &Call) -> Result<()> {
        SbrConf::of(call).map(drop)
    }
}

fn add<'a>(
    call: &'a Call,
    conf: &SbrConf,
    result: &AddResult,
    netns: &'a Netns,
    undo: &mut Undo<'a>,
) -> Result<()> {
    let _lock = lock(netns)?;
    // What an earlier ADD has left makes way.
    remove(call, netns, &[])?;
    let mut pod = Handle::in_netns(netns).map_err(kernel)?;
    let eth = interface(&mut pod, call)?;
    let rules = pod.rules().map_err(kernel)?;
    let routes = pod.routes(RouteFilter::default()).map_err(kernel)?;
    let found = Found {
        dev: eth.index,
        rules: &rules,
        routes: &routes,
    };
    let ips: Vec<&IpConfig> = ours(call, result).collect();
    let Plan {
        routes,
        rules,
        moved,
    } = plan::plan(conf, &ips, &found);
    let tables: Vec<u32> = routes.iter().filter_map(|route| route.table).collect();
    undo.push("the routes by source", move || remove(call, netns, &tables));
    // One by one: what comes behind a failure must not be done.
    let (in_main, in_tables): (Vec<_>, Vec<_>) = routes
        .into_iter()
        .partition(|route| route.table == Some(MAIN_TABLE));
    for request in in_tables.iter().map(Route::add_path) {
        pod.execute(vec![request]).map_err(kernel)?;
    }
    for request in rules.iter().map(Rule::create) {
        pod.execute(vec![request]).map_err(kernel)?;
    }
    // Gateways before the links that they are reached by.
    let mut moved = moved;
    moved.sort_by_key(|route| route.gw.is_none());
    for request in moved.iter().map(Route::delete) {
        unless_missing(pod.execute(vec![request]))?;
    }
    for request in in_main.iter().map(Route::add_path) {
        pod.execute(vec![request]).map_err(kernel)?;
    }
    Ok(())
}

/// Takes the rules of the attachment away and puts its routes back into the main table: those of the addresses that its
/// interface has or had, and those whose address nobody in the pod has any more. `known` are tables that are its own
/// even if no rule leads to them.
fn remove(call: &Call, netns: &Netns, known: &[u32]) -> Result<()> {
    let mut pod = Handle::in_netns(netns).map_err(kernel)?;
    let eth = pod.link(&call.attachment.ifname).map_err(kernel)?;
    let addresses = pod.addresses(None).map_err(kernel)?;
    let result = call.conf.prev_result.as_ref();
    let is_of_attachment = |rule: &Rule| {
        let ip = rule.source.ip();
        let mut carried = addresses
            .iter()
            .filter(|address| address.network.ip() == ip);
        match (carried.next(), &eth) {
            (Some(address), Some(eth)) if address.index == eth.index => true,
            (Some(_), _) => false,
            // The reference's rules say nothing of who made them.
            (None, _) => {
                rule.protocol == Some(PROTOCOL)
                    || result
                        .is_some_and(|result| ours(call, result).any(|own| own.address.ip() == ip))
            }
        }
    };
    let rules = pod.rules().map_err(kernel)?;
    let rules: Vec<_> = rules
        .into_iter()
        .filter(|rule| {
            subnet::is_host(rule.source) && matches!(rule.protocol, Some(PROTOCOL | 0) | None)
        })
        .filter(is_of_attachment)
        .collect();
    for rule in &rules {
        unless_missing(pod.execute(vec![rule.delete()]))?;
    }
    let Some(eth) = eth else {
        return Ok(());
    };
    let routes = pod.routes(by(&eth)).map_err(kernel)?;
    let of_rules = rules
        .iter()
        .filter(|rule| rule.protocol == Some(PROTOCOL))
        .map(|rule| rule.table);
    let of_routes = routes
        .iter()
        .filter(|route| route.protocol == Some(PROTOCOL))
        .filter_map(|route| route.table);
    let mut tables: Vec<u32> = of_rules
        .chain(of_routes)
        .chain(known.iter().copied())
        .collect();
    // A table that the configuration names is filled by others.
    let named: Option<i64> = call.conf.parse_key(&["table"]).unwrap_or_default();
    tables.retain(|table| *table != MAIN_TABLE && named != Some((*table).into()));
    put_back(&mut pod, routes, &tables)
}

/// Moves the routes that were in the main table back there. One that was made here is only taken away.
fn put_back(pod: &mut Handle, routes: Vec<Route>, tables: &[u32]) -> Result<()> {
    let (mut moved, made): (Vec<_>, Vec<_>) = routes
        .into_iter()
        .filter(|route| {
            let in_table = route.table.is_some_and(|table| tables.contains(&table));
            let is_hint = route.table == Some(MAIN_TABLE) && route.protocol == Some(PROTOCOL);
            in_table || is_hint
        })
        .partition(|route| route.protocol != Some(PROTOCOL));
    for route in &made {
        unless_missing(pod.execute(vec![route.delete()]))?;
    }
    moved.sort_by_key(|route| route.gw.is_some());
    for route in &moved {
        let home = Route {
            table: Some(MAIN_TABLE),
            ..route.clone()
        };
        match pod.execute(vec![home.add_path()]) {
            Err(error) if !error.is_exists() => return Err(kernel(error)),
            _ => {}
        }
    }
    for route in moved.iter().rev() {
        unless_missing(pod.execute(vec![route.delete()]))?;
    }
    Ok(())
}

fn check(
    conf: &SbrConf,
    ip: &IpConfig,
    eth: &Link,
    rules: &[Rule],
    routes: &[Route],
) -> Result<()> {
    let source = ip.address.ip();
    let rule = rules.iter().find(|rule| {
        rule.source == source.into() && conf.table.is_none_or(|table| table == rule.table)
    });
    let Some(rule) = rule else {
        return Err(broken(format!(
            "packets from {source} are not routed by their source any more: `ip rule show from {source}` in the pod shows nothing"
        )));
    };
    let Some(gateway) = conf.gateway_of(ip).filter(|_| conf.table.is_none()) else {
        return Ok(());
    };
    let way_out = routes.iter().any(|route| {
        let default = route.dst.prefix() == 0 && route.gw == Some(gateway);
        default && route.table == Some(rule.table)
    });
    match way_out {
        true => Ok(()),
        false => Err(broken(format!(
            "packets from {source} have lost their gateway: run `ip route add default via {gateway} dev {} table {}` in the pod",
            eth.name, rule.table
        ))),
    }
}

/// Keeps others from choosing tables in the pod meanwhile, the reference's sbr as well.
fn lock(netns: &Netns) -> Result<NetnsLock> {
    netns.run(NetnsLock::exclusive).map_err(kernel)?
}

fn by(eth: &Link) -> RouteFilter {
    RouteFilter {
        dev: Some(eth.index),
        ..RouteFilter::default()
    }
}

fn interface(pod: &mut Handle, call: &Call) -> Result<Link> {
    let name = &call.attachment.ifname;
    pod.link(name).map_err(kernel)?.ok_or_else(|| {
        Error::new(
            Code::InvalidEnvironment,
            format!("the pod has no interface {name}: put sbr behind the plugin that makes it"),
        )
    })
}

fn previous(call: &Call) -> Result<&AddResult> {
    call.conf.prev_result.as_ref().ok_or_else(|| {
        invalid(
            "sbr must be called as a chained plugin: put it behind the plugin that makes the interface",
        )
    })
}
