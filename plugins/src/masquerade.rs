//! `ipMasq`: what a pod sends beyond its own subnet leaves with the host's address.
//!
//! The table is `inet heddle_cni`. Its base chain looks the source address up in `masq4` or `masq6`;
//! a pod's address jumps to the chain of its network and subnet, which lets the subnet itself and
//! multicast go as they are, and masquerades the rest.

mod reference;

use cni::{Call, Code, Error, Result};
use ipnetwork::IpNetwork;
use netlink::nft::{Expr, Family, Handle, Hook, Key, Table, Type};

use crate::error::{Failures, kernel};
use crate::rules::{self, Entry, Map, Rules};
use crate::subnet;

const IPV4: &str = "masq4";
const IPV6: &str = "masq6";

const RULES: Rules = Rules {
    table: Table {
        family: Family::Inet,
        name: "heddle_cni",
    },
    base: "postrouting",
    hook: Hook::SNAT_POSTROUTING,
    prelude: &[],
    sets: &[],
    maps: &[
        Map {
            name: IPV4,
            key: Type::Ipv4Address,
            rule: Expr::source_v4_verdict,
        },
        Map {
            name: IPV6,
            key: Type::Ipv6Address,
            rule: Expr::source_v6_verdict,
        },
    ],
    prefix: "masq-",
    rules_per_chain: 3,
};

/// Masquerades what comes from `addresses`, each with the prefix length of its subnet.
///
/// # Errors
/// Code 4 when an address is another pod's; otherwise what the kernel said.
pub fn add(call: &Call, addresses: &[IpNetwork]) -> Result<()> {
    let entries: Vec<_> = addresses
        .iter()
        .map(|address| entry(&call.conf.name, *address))
        .collect();
    RULES.add(&mut rules::open()?, call, &entries)
}

/// Stops masquerading for the attachment, whatever the configuration says now, and whoever began it.
///
/// # Errors
/// What the kernel said.
pub fn remove(nft: &mut Handle, call: &Call) -> Result<()> {
    let previous = call.conf.prev_result.as_ref();
    let keys: Option<Vec<_>> =
        previous.map(|result| result.ips.iter().map(|ip| key(ip.address)).collect());
    let mut failures = Failures::default();
    failures.note(RULES.remove(nft, call, keys.as_deref()));
    failures.note(reference::remove(nft, call));
    failures.into_result()
}

/// Stops masquerading for the network's attachments that are not valid.
///
/// # Errors
/// What the kernel said.
pub fn collect(nft: &mut Handle, call: &Call) -> Result<()> {
    let mut failures = Failures::default();
    failures.note(RULES.collect(nft, call));
    if let Some(valid) = &call.conf.valid_attachments {
        failures.note(reference::collect(nft, &call.conf.name, valid));
    }
    failures.into_result()
}

/// Whether all `addresses` are masqueraded for this attachment.
///
/// # Errors
/// Code 999 for one that is not.
pub fn check(call: &Call, addresses: &[IpNetwork]) -> Result<()> {
    let mut nft = rules::open()?;
    for address in addresses {
        let (map, key) = key(*address);
        if !RULES.has(&mut nft, call, map, key)? {
            return Err(Error::new(
                Code::Internal,
                format!(
                    "{} is not masqueraded any more: it is missing in `nft list map inet heddle_cni {map}`",
                    address.ip()
                ),
            ));
        }
    }
    Ok(())
}

/// Whether the kernel has nftables.
///
/// # Errors
/// Code 50 when it has not.
pub fn status() -> Result<()> {
    Handle::new()
        .and_then(|mut nft| nft.generation())
        .map(drop)
        .map_err(|error| {
            Error::new(
                Code::NotAvailable,
                format!(
                    "the kernel has no nftables (CONFIG_NF_TABLES): {}",
                    kernel(error)
                ),
            )
        })
}

fn key(address: IpNetwork) -> (&'static str, Key) {
    (
        if address.is_ipv4() { IPV4 } else { IPV6 },
        Key::from(address.ip()),
    )
}

fn entry(network: &str, address: IpNetwork) -> Entry {
    let subnet = subnet::of(address);
    let (map, key) = key(address);
    let multicast = if address.is_ipv4() {
        subnet::MULTICAST_V4
    } else {
        subnet::MULTICAST_V6
    };
    Entry {
        map,
        key,
        chain: format!(
            "masq-{}",
            cni::identity::digest(&format!("{network}\n{subnet}"), 16)
        ),
        rules: vec![
            Expr::destination_in(subnet).then(Expr::return_()),
            Expr::destination_in(multicast).then(Expr::return_()),
            Expr::masquerade(),
        ],
    }
}
