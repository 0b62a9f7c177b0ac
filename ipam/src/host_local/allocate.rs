//! Which addresses a pod gets: one of each range set, the one that was asked for or the next that is free.

use std::net::IpAddr;

use cni::{Attachment, Code, Error, Result};
use ipnetwork::IpNetwork;

use super::conf::Conf;
use super::range::RangeSet;
use super::store::Store;

/// How many addresses are tried before the whole directory is read to see which are free.
const PROBES: usize = 16;

/// Takes an address of each set, or none at all; each comes with its gateway.
///
/// # Errors
/// Code 11 when a set is exhausted, code 7 when an address that was asked for is not to be had, code 4
/// when the attachment holds one already.
pub fn all(
    store: &mut Store,
    conf: &Conf,
    attachment: &Attachment,
) -> Result<Vec<(IpNetwork, IpAddr)>> {
    let mut taken = Vec::new();
    match take_all(store, conf, attachment, &mut taken) {
        Ok(addresses) => {
            store.remember(attachment, taken);
            Ok(addresses)
        }
        Err(error) => {
            store.give_back(&taken)?;
            Err(error)
        }
    }
}

fn take_all(
    store: &mut Store,
    conf: &Conf,
    attachment: &Attachment,
    taken: &mut Vec<IpAddr>,
) -> Result<Vec<(IpNetwork, IpAddr)>> {
    let held = store.leases_of(attachment)?;
    let mut requested = conf.requested.clone();
    let mut addresses = Vec::new();
    for (index, set) in conf.sets.iter().enumerate() {
        let number = |error: Error| Error {
            msg: format!("failed to allocate for range {index}: {}", error.msg),
            ..error
        };
        if let Some(address) = held.iter().find(|address| set.contains(**address)) {
            return Err(number(Error::new(
                Code::InvalidEnvironment,
                format!(
                    "{address} has been allocated to {}, duplicate allocation is not allowed: run DEL first",
                    attachment.container_id
                ),
            )));
        }
        let wanted = requested
            .iter()
            .position(|address| set.contains(*address))
            .map(|at| requested.remove(at));
        let address = match wanted {
            Some(address) => take_requested(store, set, index, address, attachment),
            None => take_next(store, set, index, attachment),
        }
        .map_err(number)?;
        taken.push(address);
        addresses.extend(
            set.range_of(address)
                .map(|range| (range.with_prefix(address), range.gateway)),
        );
    }
    if !requested.is_empty() {
        let left: Vec<String> = requested.iter().map(IpAddr::to_string).collect();
        return Err(Error::new(
            Code::InvalidConfig,
            format!(
                "failed to allocate all requested IPs: {}: no range set has room for them, one address each",
                left.join(",")
            ),
        ));
    }
    Ok(addresses)
}

fn take_requested(
    store: &mut Store,
    set: &RangeSet,
    index: usize,
    address: IpAddr,
    attachment: &Attachment,
) -> Result<IpAddr> {
    if set
        .range_of(address)
        .is_some_and(|range| range.gateway == address)
    {
        return Err(Error::new(
            Code::InvalidConfig,
            format!("requested ip {address} is subnet's gateway: ask for another one"),
        ));
    }
    let draft = store.draft(attachment)?;
    if store.take(&draft, address, index)? {
        return Ok(address);
    }
    let dead = store.dead(set)?;
    if dead.iter().any(|lease| lease.address == address) {
        store.reclaim(set)?;
        if store.take(&draft, address, index)? {
            return Ok(address);
        }
    }
    let holder = store.holder(address)?.map(|owner| owner.0.container_id);
    Err(Error::new(
        Code::InvalidConfig,
        format!("requested IP address {address} is not available in range set {set}"),
    )
    .details(format!(
        "it is held by container {}",
        holder.as_deref().unwrap_or("unknown")
    )))
}

fn take_next(
    store: &mut Store,
    set: &RangeSet,
    index: usize,
    attachment: &Attachment,
) -> Result<IpAddr> {
    if let Some(address) = try_next(store, set, index, attachment)? {
        return Ok(address);
    }
    if store.reclaim(set)? > 0
        && let Some(address) = try_next(store, set, index, attachment)?
    {
        return Ok(address);
    }
    Err(exhausted(set))
}

/// The next free address behind the one that was given out last; `None` when all are taken.
fn try_next(
    store: &mut Store,
    set: &RangeSet,
    index: usize,
    attachment: &Attachment,
) -> Result<Option<IpAddr>> {
    let draft = store.draft(attachment)?;
    let last = store.last_reserved(index);
    let mut leased = None;
    for (tried, (address, _)) in set.after(last).enumerate() {
        if tried == PROBES {
            leased = Some(store.addresses()?);
        }
        let known_taken = leased
            .as_ref()
            .is_some_and(|leased| leased.contains(&address));
        if !known_taken && store.take(&draft, address, index)? {
            return Ok(Some(address));
        }
    }
    Ok(None)
}

/// Says when no pod could get an address.
///
/// # Errors
/// Code 50, with how many are used, when a set is exhausted.
pub fn require_room(store: &Store, conf: &Conf) -> Result<()> {
    let leased = store.addresses()?;
    for set in &conf.sets {
        let used = leased
            .iter()
            .filter(|address| set.contains(**address))
            .count();
        if used as u128 >= set.size() && store.dead(set)?.is_empty() {
            return Err(Error {
                code: Code::NotAvailable,
                ..exhausted(set)
            });
        }
    }
    Ok(())
}

fn exhausted(set: &RangeSet) -> Error {
    let size = set.size();
    Error::new(Code::TryAgainLater, format!("no IP addresses available in range set: {set}"))
        .details(format!("{size} of {size} addresses are used: delete pods, run GC, or give the network a larger range"))
}
