//! What the Go plugin has left for pods that it added, so that a node changes over with pods running: in the tables of
//! `iptables` (its nftables form) a chain for each container, named after a hash; in the tables `cni_hostport` of its
//! nftables form, rules whose comment is the container's id. What it keeps for all pods stays.

use cni::{Attachment, Call, Result};
use netlink::nft::{Family, Handle, RuleHandle, Table};

use crate::error::{Failures, kernel};
use crate::reference::{self, FAMILIES};

/// Leads to the chains of the containers, in the table `nat`.
const ENTRANCE: &str = "CNI-HOSTPORT-DNAT";
const PREFIX: &str = "CNI-DN-";
/// Those of `cni_hostport` that have rules of containers.
const CHAINS: [&str; 3] = ["hostports", "hostip_hostports", "masquerading"];

/// Removes what is the attachment's container's on this network.
///
/// # Errors
/// What the kernel said; never for what is not there.
pub fn remove(nft: &mut Handle, call: &Call) -> Result<()> {
    let chain = chain_name(&call.conf.name, &call.attachment);
    let mut failures = Failures::default();
    for family in FAMILIES {
        let is_its = |rule: &RuleHandle| rule.jump.as_ref() == Some(&chain);
        failures.note(remove_chains(nft, family, is_its));
        failures.note(remove_rules(nft, family, call));
    }
    failures.into_result()
}

/// Removes the chains of the network's containers that are not valid. The rules in `cni_hostport` do not say which
/// network they are for: these go with a DEL only.
///
/// # Errors
/// What the kernel said.
pub fn collect(nft: &mut Handle, call: &Call) -> Result<()> {
    let network = &call.conf.name;
    let valid = call.conf.valid_attachments.as_deref().unwrap_or_default();
    let keep: Vec<_> = valid
        .iter()
        .map(|attachment| chain_name(network, attachment))
        .collect();
    let of_network = format!("dnat name: \"{network}\" id: \"");
    let mut failures = Failures::default();
    for family in FAMILIES {
        failures.note(remove_chains(nft, family, |rule| {
            let comment = rule.comment.as_ref();
            comment.is_some_and(|comment| comment.starts_with(&of_network))
                && rule
                    .jump
                    .as_ref()
                    .is_some_and(|chain| chain.starts_with(PREFIX) && !keep.contains(chain))
        }));
    }
    failures.into_result()
}

/// The chain of a container.
fn chain_name(network: &str, attachment: &Attachment) -> String {
    reference::hashed(PREFIX, 21, network, attachment)
}

/// Removes the chains that stale rules of the entrance jump to, with these rules.
fn remove_chains(
    nft: &mut Handle,
    family: Family,
    is_stale: impl Fn(&RuleHandle) -> bool,
) -> Result<()> {
    let table = Table {
        family,
        name: "nat",
    };
    reference::remove_chains(nft, table, ENTRANCE, is_stale)
}

/// Removes the rules that are the container's by their comment, and this network's by the address: where the runtime
/// says which it was.
fn remove_rules(nft: &mut Handle, family: Family, call: &Call) -> Result<()> {
    let table = Table {
        family,
        name: "cni_hostport",
    };
    if nft.chain(table, CHAINS[0]).map_err(kernel)?.is_none() {
        return Ok(());
    }
    let addresses = reference::addresses(call);
    let id = &call.attachment.container_id;
    reference::remove(nft, table, |nft, transaction| {
        for chain in CHAINS {
            for rule in nft.rule_handles(table, chain)? {
                let is_about = |address| rule.values.contains(address);
                if rule.comment.as_ref() == Some(id)
                    && (addresses.is_empty() || addresses.iter().any(is_about))
                {
                    transaction.delete_rule(chain, rule.handle);
                }
            }
        }
        Ok(())
    })
}
