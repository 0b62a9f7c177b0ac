//! The queues of one pod, and the `ifb` that packets from it wait on.

use cni::{Call, Code, Error, Result, identity};
use netlink::link::{self, Ifb};
use netlink::tc::{self, Bucket};
use netlink::{Handle, Link};

use super::conf::BandwidthConf;
use crate::error::kernel;

/// The name of the attachment's `ifb`, 15 bytes; the reference's begin the same.
pub fn ifb_name(call: &Call) -> String {
    let mark = identity::mark(&call.conf.name, &call.attachment, identity::ALIAS_MAX);
    format!("bwp{}", identity::digest(&mark, 12))
}

/// Makes the queues, and the `ifb` where the pod's own packets are limited.
///
/// # Errors
/// What the kernel refused; it has no `ifb`, for one.
pub fn apply(
    host: &mut Handle,
    call: &Call,
    conf: &BandwidthConf,
    link: &Link,
) -> Result<Option<Link>> {
    let ingress = conf.ingress.map(|bucket| bucket.request(link.index));
    let Some(egress) = conf.egress else {
        host.execute(ingress.into_iter().collect())
            .map_err(kernel)?;
        return Ok(None);
    };
    let name = ifb_name(call);
    let ifb = Ifb {
        name: &name,
        mtu: link.mtu,
    };
    match host.execute(vec![ifb.request(), link::no_link_local(&name)]) {
        Err(error) if !error.is_without_ipv6() => return Err(kernel(error)),
        _ => {}
    }
    let ifb = host.link(&name).map_err(kernel)?.ok_or_else(|| {
        Error::new(
            Code::Internal,
            format!("{name} vanished while it was being set up"),
        )
    })?;
    let alias = identity::mark(&call.conf.name, &call.attachment, identity::ALIAS_MAX);
    let mut batch = vec![
        link::set_alias(ifb.index, &alias),
        egress.request(ifb.index),
        link::set_up(ifb.index),
        tc::add_ingress(link.index),
    ];
    // Between the two, because a filter waits for RCU unless somebody has since its queue was made.
    batch.extend(ingress);
    batch.push(tc::redirect(link.index, ifb.index));
    host.execute(batch).map_err(kernel)?;
    Ok(Some(ifb))
}

/// Removes an `ifb`, if it is there.
///
/// # Errors
/// What the kernel refused.
pub fn remove_ifb(host: &mut Handle, name: &str) -> Result<()> {
    let Some(ifb) = host.link(name).map_err(kernel)? else {
        return Ok(());
    };
    match host.execute(vec![link::delete(ifb.index)]) {
        Err(error) if !error.is_not_found() => Err(kernel(error)),
        _ => Ok(()),
    }
}

/// Whether the queues are as the configuration says.
///
/// # Errors
/// Code 999 for one that is missing or another.
pub fn check(host: &mut Handle, call: &Call, conf: &BandwidthConf, link: &Link) -> Result<()> {
    compare(host, link, conf.ingress)?;
    if conf.egress.is_none() {
        return Ok(());
    }
    let name = ifb_name(call);
    let ifb = host.link(&name).map_err(kernel)?.filter(|ifb| ifb.up);
    let Some(ifb) = ifb else {
        return broken(format!(
            "what the pod sends is not limited any more: {name} is missing or down"
        ));
    };
    let redirections = host.redirections(link.index).map_err(kernel)?;
    if !redirections.contains(&ifb.index) {
        return broken(format!(
            "what the pod sends is not limited any more: `tc filter show dev {} ingress` shows no redirection to {name}",
            link.name
        ));
    }
    compare(host, &ifb, conf.egress)
}

fn compare(host: &mut Handle, link: &Link, wanted: Option<Bucket>) -> Result<()> {
    let Some(wanted) = wanted else {
        return Ok(());
    };
    let found = host.bucket(link.index).map_err(kernel)?;
    // The kernel keeps a burst as the time that it lasts, in ticks.
    let tick = u32::try_from(wanted.rate / 1_000_000)
        .unwrap_or(u32::MAX)
        .saturating_add(2);
    match found {
        None => broken(format!(
            "{} has no token bucket any more: look at `tc qdisc show dev {}`",
            link.name, link.name
        )),
        Some(found)
            if (found.rate, found.limit) != (wanted.rate, wanted.limit)
                || found.burst.abs_diff(wanted.burst) > tick =>
        {
            broken(format!(
                "the token bucket of {} is another: rate {} B/s, burst {} B and limit {} B instead of {}, {} and {}",
                link.name,
                found.rate,
                found.burst,
                found.limit,
                wanted.rate,
                wanted.burst,
                wanted.limit
            ))
        }
        Some(_) => Ok(()),
    }
}

fn broken(message: String) -> Result<()> {
    Err(Error::new(Code::Internal, message))
}
