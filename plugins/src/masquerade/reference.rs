//! What the Go plugin has left of `ipMasq` for pods that it added: in iptables' table `nat` (its nftables form) a chain for
//! each container, named after a hash, and rules that lead there from POSTROUTING; in its own nftables table a rule for each
//! address. What it keeps for all pods stays.

use cni::{Attachment, Call, Result};
use netlink::nft::{Family, Handle, RuleHandle, Table};

use crate::error::{Failures, kernel};
use crate::reference::{self, FAMILIES};

const ENTRANCE: &str = "POSTROUTING";
const PREFIX: &str = "CNI-";
const DIGITS: usize = 24;
/// The Go plugin's own table, and its chain (`pkg/ip/ipmasq_nftables_linux.go`).
const OWN: Table = Table {
    family: Family::Inet,
    name: "cni_plugins_masquerade",
};
const CHECKS: &str = "masq_checks";

/// Removes what is the attachment's.
///
/// # Errors
/// What the kernel said; never for what is not there.
pub fn remove(nft: &mut Handle, call: &Call) -> Result<()> {
    let network = &call.conf.name;
    let chain = chain_name(network, &call.attachment);
    let mut failures = Failures::default();
    for family in FAMILIES {
        let table = nat(family);
        if nft.chain(table, &chain).map_err(kernel)?.is_some() {
            let leads_there = |rule: &RuleHandle| rule.jump.as_ref() == Some(&chain);
            failures.note(reference::remove_chains(nft, table, ENTRANCE, leads_there));
        }
    }
    let its = comment(network, &call.attachment);
    failures.note(remove_checks(nft, |comment| comment.starts_with(&its)));
    failures.into_result()
}

/// Removes what is of the network's attachments that are not valid.
///
/// # Errors
/// What the kernel said.
pub fn collect(nft: &mut Handle, network: &str, valid: &[Attachment]) -> Result<()> {
    let keep: Vec<_> = valid.iter().map(|one| chain_name(network, one)).collect();
    let of_network = format!("name: \"{network}\" id: \"");
    let mut failures = Failures::default();
    for family in FAMILIES {
        let is_stale = |rule: &RuleHandle| {
            let comment = rule.comment.as_deref().unwrap_or_default();
            let chain = rule.jump.as_ref();
            comment.starts_with(&of_network)
                && chain.is_some_and(|chain| is_name(chain) && !keep.contains(chain))
        };
        failures.note(reference::remove_chains(
            nft,
            nat(family),
            ENTRANCE,
            is_stale,
        ));
    }
    let of_network = format!("{}-", reference::hash(network, 16));
    let keep: Vec<_> = valid.iter().map(|one| comment(network, one)).collect();
    failures.note(remove_checks(nft, |comment| {
        comment.starts_with(&of_network) && !keep.iter().any(|kept| comment.starts_with(kept))
    }));
    failures.into_result()
}

fn nat(family: Family) -> Table {
    Table {
        family,
        name: "nat",
    }
}

/// The chain of a container.
fn chain_name(network: &str, attachment: &Attachment) -> String {
    reference::hashed(PREFIX, DIGITS, network, attachment)
}

/// Other chains of the Go plugins begin the same, and have a word behind it.
fn is_name(chain: &str) -> bool {
    let digits = chain.strip_prefix(PREFIX).unwrap_or_default();
    digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// How the comment of an attachment's rules begins.
fn comment(network: &str, attachment: &Attachment) -> String {
    let Attachment {
        container_id,
        ifname,
    } = attachment;
    let instance = reference::hash(&format!("{ifname}:{container_id}"), 16);
    format!("{}-{instance}", reference::hash(network, 16))
}

fn remove_checks(nft: &mut Handle, is_stale: impl Fn(&str) -> bool) -> Result<()> {
    if nft.chain(OWN, CHECKS).map_err(kernel)?.is_none() {
        return Ok(());
    }
    reference::remove(nft, OWN, |nft, transaction| {
        for rule in nft.rule_handles(OWN, CHECKS)? {
            if rule.comment.as_deref().is_some_and(&is_stale) {
                transaction.delete_rule(CHECKS, rule.handle);
            }
        }
        Ok(())
    })
}
