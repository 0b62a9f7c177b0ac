//! CHECK of the pod's end of an attachment, each finding in a sentence with its remedy.
//!
//! It never changes anything, and is tolerant of what others may rightly do to an interface: `tcpdump`
//! makes it promiscuous, `tuning` changes its MAC, `sbr` moves its routes to another table.

use cni::{AddResult, Call, Code, Error, Interface, IpConfig, Result};
use netlink::{Handle, Link, Route, RouteFilter};

use crate::error::kernel;
use crate::{pod, sandbox, subnet};

/// What the pod's interface must be, besides what `prevResult` says of it.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Its kind; `None` where any will do.
    pub kind: Option<&'a str>,
    /// Its MTU in bytes, where the result says none.
    pub mtu: Option<u32>,
    /// Whether it must be up.
    pub up: bool,
}

/// The result of ADD, which CHECK compares with.
///
/// # Errors
/// Code 7 when the runtime gave none.
pub fn previous(call: &Call) -> Result<&AddResult> {
    call.conf.prev_result.as_ref().ok_or_else(|| {
        Error::new(
            Code::InvalidConfig,
            "CHECK needs \"prevResult\", the result of ADD, in the configuration",
        )
    })
}

/// Compares the pod's interface, its addresses and its routes with `result`; returns the interface, with a handle in
/// the pod, for what is special about it.
///
/// # Errors
/// Code 999 for the first thing found missing or different.
pub fn compare(call: &Call, result: &AddResult, expected: Expected<'_>) -> Result<(Handle, Link)> {
    let netns = sandbox::open(call)?;
    let mut pod = Handle::in_netns(&netns).map_err(kernel)?;
    let name = &call.attachment.ifname;
    let eth = present(pod.link(name), &format!("container interface {name}"))?;
    if let Some(kind) = expected
        .kind
        .filter(|kind| eth.kind.as_deref() != Some(kind))
    {
        return Err(broken(format!(
            "container interface {name} is not a {kind} any more"
        )));
    }
    let wanted = container_interface(call, result);
    if let Some(mac) = wanted.and_then(|wanted| wanted.mac.as_ref()) {
        let found = eth.mac.map(|mac| mac.to_string());
        if Some(mac.to_ascii_lowercase()) != found {
            return Err(broken(format!(
                "{name} has MAC {found:?} instead of {mac:?}"
            )));
        }
    }
    let mtu = wanted.and_then(|wanted| wanted.mtu).or(expected.mtu);
    if let Some(mtu) = mtu.filter(|mtu| *mtu != eth.mtu) {
        return Err(broken(format!(
            "{name} has MTU {} instead of {mtu}: run `ip link set {name} mtu {mtu}` in the pod",
            eth.mtu
        )));
    }
    if expected.up && !eth.up {
        return Err(broken(format!(
            "{name} is down in the pod: run `ip link set {name} up` there"
        )));
    }
    let addresses = pod.addresses(Some(eth.index)).map_err(kernel)?;
    for ip in ours(call, result) {
        if !addresses.iter().any(|there| there.network == ip.address) {
            return Err(broken(format!(
                "{name} has lost its address {0}: run `ip address add {0} dev {name}` in the pod",
                ip.address
            )));
        }
    }
    check_routes(call, &mut pod, &eth, result)?;
    Ok((pod, eth))
}

fn check_routes(call: &Call, pod: &mut Handle, eth: &Link, result: &AddResult) -> Result<()> {
    let connected = ours(call, result)
        .filter(|ip| !subnet::is_host(ip.address))
        .map(|ip| Route::to(subnet::of(ip.address)));
    let mut wanted: Vec<Route> = connected.collect();
    wanted.extend(pod::routes(eth.index, result));
    require_routes(pod, eth, &wanted)
}

/// Whether the pod has these routes by its interface; of another table only where the route says none.
///
/// # Errors
/// Code 999 for the first that is missing.
pub fn require_routes(pod: &mut Handle, eth: &Link, wanted: &[Route]) -> Result<()> {
    let by_eth = RouteFilter {
        dev: Some(eth.index),
        ..RouteFilter::default()
    };
    let there = pod.routes(by_eth).map_err(kernel)?;
    for wanted in wanted {
        let found = there.iter().any(|route| {
            subnet::of(route.dst) == subnet::of(wanted.dst)
                && (wanted.gw.is_none() || route.gw == wanted.gw)
                && (wanted.table.is_none() || route.table == wanted.table)
        });
        if !found {
            return Err(broken(format!(
                "the pod has lost its route to {} by {}",
                subnet::of(wanted.dst),
                eth.name
            )));
        }
    }
    Ok(())
}

/// The entry of the result that is this attachment's interface.
fn container_interface<'a>(call: &Call, result: &'a AddResult) -> Option<&'a Interface> {
    result
        .interfaces
        .iter()
        .find(|interface| is_container(call, interface))
}

fn is_container(call: &Call, interface: &Interface) -> bool {
    interface.name == call.attachment.ifname
        && interface
            .sandbox
            .as_deref()
            .is_some_and(|sandbox| !sandbox.is_empty())
}

/// The addresses of the result that stand on this attachment's interface, not on one that another
/// plugin of the chain made.
pub fn ours<'a>(call: &'a Call, result: &'a AddResult) -> impl Iterator<Item = &'a IpConfig> {
    result.ips.iter().filter(move |ip| {
        ip.interface
            .and_then(|index| result.interfaces.get(index))
            .is_none_or(|interface| is_container(call, interface))
    })
}

/// What must be there.
///
/// # Errors
/// Code 999 when it is not.
pub fn present(found: netlink::Result<Option<Link>>, what: &str) -> Result<Link> {
    found
        .map_err(kernel)?
        .ok_or_else(|| broken(format!("{what} is gone: the pod must be made anew")))
}

/// Code 999 with this sentence.
pub fn broken(msg: impl Into<String>) -> Error {
    Error::new(Code::Internal, msg)
}
