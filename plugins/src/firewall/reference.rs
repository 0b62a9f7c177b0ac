//! What the Go plugin has left for a pod that it added: in `iptables`' FORWARD chain (its nftables form) rules that know
//! nothing but the pod's addresses. So they go with a DEL that says which these are. What the Go plugin keeps for all
//! pods stays: its chain leads to the administrator's own, `CNI-ADMIN`.

use cni::{Call, Result};
use netlink::nft::{Handle, Table};

use crate::error::Failures;
use crate::reference::{self, FAMILIES};

const CHAIN: &str = "CNI-FORWARD";

/// Removes the rules about the addresses in `prevResult`.
///
/// # Errors
/// What the kernel said; never for what is not there.
pub fn remove(nft: &mut Handle, call: &Call) -> Result<()> {
    let addresses = reference::addresses(call);
    if addresses.is_empty() {
        return Ok(());
    }
    let mut failures = Failures::default();
    for family in FAMILIES {
        let table = Table {
            family,
            name: "filter",
        };
        failures.note(reference::remove(nft, table, |nft, transaction| {
            if nft.chain(table, CHAIN)?.is_none() {
                return Ok(());
            }
            for rule in nft.rule_handles(table, CHAIN)? {
                if addresses
                    .iter()
                    .any(|address| rule.values.contains(address))
                {
                    transaction.delete_rule(CHAIN, rule.handle);
                }
            }
            Ok(())
        }));
    }
    failures.into_result()
}
