//! Whose the addresses are that firewalld has as sources of a zone: elements of two sets in a table of their own, with
//! the owner as their comment. No rule uses them.

use std::net::IpAddr;

use cni::Result;
use netlink::nft::{Element, Family, Handle, Key, Set, Table, Transaction, Type};

use crate::error::kernel;

const TABLE: Table = Table {
    family: Family::Inet,
    name: "heddle_firewalld",
};
const IPV4: &str = "sources4";
const IPV6: &str = "sources6";
/// How often a transaction is made anew because somebody else's came in between.
const ATTEMPTS: usize = 20;

/// Notes that these addresses are `owner`'s now, whoever had them.
///
/// # Errors
/// What the kernel said.
pub fn put(nft: &mut Handle, owner: &str, addresses: &[IpAddr]) -> Result<()> {
    retry(nft, |nft| {
        let mut transaction = Transaction::new(TABLE);
        transaction.add_table();
        for (name, key) in [(IPV4, Type::Ipv4Address), (IPV6, Type::Ipv6Address)] {
            transaction.add_set(&Set {
                name,
                key,
                verdicts: false,
            });
        }
        for address in addresses {
            let set = if address.is_ipv4() { IPV4 } else { IPV6 };
            let key = Key::from(*address);
            if nft.element(TABLE, set, &key)?.is_some() {
                transaction.delete_elements(set, &[bare(key.clone())]);
            }
            let element = Element {
                comment: Some(owner.to_owned()),
                ..bare(key)
            };
            transaction.add_elements(set, &[element]);
        }
        Ok(transaction)
    })
}

/// The addresses of those owners.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn of(nft: &mut Handle, is_ours: impl Fn(&str) -> bool) -> Result<Vec<IpAddr>> {
    let (ours, _) = elements(nft, is_ours).map_err(kernel)?;
    Ok(ours
        .iter()
        .filter_map(|(_, element)| element.key.address())
        .collect())
}

/// Forgets those owners, and with the last one the table.
///
/// # Errors
/// What the kernel said.
pub fn forget(nft: &mut Handle, is_ours: impl Fn(&str) -> bool) -> Result<()> {
    retry(nft, |nft| {
        let mut transaction = Transaction::new(TABLE);
        transaction.if_generation(nft.generation()?);
        let (ours, others) = elements(nft, &is_ours)?;
        match (ours.is_empty(), others.is_empty()) {
            (true, _) => {}
            (false, true) => transaction.delete_table(),
            (false, false) => {
                for (set, element) in ours {
                    transaction.delete_elements(set, &[bare(element.key)]);
                }
            }
        }
        Ok(transaction)
    })
}

type Elements = Vec<(&'static str, Element)>;

/// Those owners' elements, and the others.
fn elements(
    nft: &mut Handle,
    is_ours: impl Fn(&str) -> bool,
) -> netlink::Result<(Elements, Elements)> {
    let mut all = Vec::new();
    for set in [IPV4, IPV6] {
        let elements = nft.elements(TABLE, set)?;
        all.extend(elements.into_iter().map(|element| (set, element)));
    }
    let is_ours = |(_, element): &(_, Element)| element.comment.as_deref().is_some_and(&is_ours);
    Ok(all.into_iter().partition(is_ours))
}

fn bare(key: Key) -> Element {
    Element {
        key,
        value: None,
        comment: None,
    }
}

/// Carries out a transaction, made anew where somebody else was there first.
fn retry(
    nft: &mut Handle,
    mut make: impl FnMut(&mut Handle) -> netlink::Result<Transaction>,
) -> Result<()> {
    let mut outcome = Ok(());
    for _ in 0..ATTEMPTS {
        let transaction = make(nft).map_err(kernel)?;
        outcome = nft.commit(&transaction);
        match &outcome {
            Err(error) if error.is_busy() || error.is_not_found() || error.is_exists() => {}
            _ => break,
        }
    }
    outcome.map_err(kernel)
}
