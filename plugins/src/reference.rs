//! What is common to finding again what a Go plugin has left for a pod that it added.

use std::net::IpAddr;

use cni::{Attachment, Call, Result};
use netlink::nft::{Family, Handle, RuleHandle, Table, Transaction};
use sha2::{Digest, Sha512};

use crate::error::kernel;

/// Each has its tables.
pub const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];
/// How often a transaction is made anew because somebody else's came in between.
const ATTEMPTS: usize = 20;

/// A name as the reference's `MustFormatHashWithPrefix` makes it of network and container, with so many digits.
pub fn hashed(prefix: &str, digits: usize, network: &str, attachment: &Attachment) -> String {
    let name = format!("{network}{}", attachment.container_id);
    format!("{prefix}{}", hash(&name, digits))
}

/// The first hexadecimal digits of a text's SHA-512.
pub fn hash(text: &str, digits: usize) -> String {
    let digest = Sha512::digest(text);
    let bytes = digest.iter().take(digits.div_ceil(2));
    let hex: String = bytes.map(|byte| format!("{byte:02x}")).collect();
    hex[..digits].to_owned()
}

/// The addresses that `prevResult` says the pod has, as rules have them; none where the runtime left it out.
pub fn addresses(call: &Call) -> Vec<Vec<u8>> {
    let ips = call.conf.prev_result.iter().flat_map(|result| &result.ips);
    let octets = |address| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    ips.map(|ip| octets(ip.address.ip())).collect()
}

/// Carries out what `collect` puts together, anew where somebody else was there first.
///
/// # Errors
/// What the kernel said.
pub fn remove(
    nft: &mut Handle,
    table: Table,
    mut collect: impl FnMut(&mut Handle, &mut Transaction) -> netlink::Result<()>,
) -> Result<()> {
    let mut outcome = Ok(());
    for _ in 0..ATTEMPTS {
        let mut transaction = Transaction::new(table);
        collect(nft, &mut transaction).map_err(kernel)?;
        outcome = nft.commit(&transaction);
        match &outcome {
            Err(error) if error.is_busy() || error.is_not_found() => {}
            _ => break,
        }
    }
    outcome.map_err(kernel)
}

/// Removes the chains that stale rules of the chain `entrance` jump to, with these rules.
///
/// # Errors
/// What the kernel said; never for what is not there.
pub fn remove_chains(
    nft: &mut Handle,
    table: Table,
    entrance: &str,
    is_stale: impl Fn(&RuleHandle) -> bool,
) -> Result<()> {
    if nft.chain(table, entrance).map_err(kernel)?.is_none() {
        return Ok(());
    }
    remove(nft, table, |nft, transaction| {
        let mut chains = Vec::new();
        for rule in nft.rule_handles(table, entrance)? {
            if is_stale(&rule) {
                transaction.delete_rule(entrance, rule.handle);
                chains.extend(rule.jump);
            }
        }
        chains.sort_unstable();
        chains.dedup();
        chains
            .iter()
            .for_each(|chain| transaction.delete_chain(chain));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_references() {
        // printf 'netc1' | sha512sum
        let attachment = Attachment {
            container_id: "c1".to_owned(),
            ifname: "eth0".to_owned(),
        };
        for (prefix, digits, name) in [
            ("CNI-DN-", 21, "CNI-DN-623e1c388032b20529218"),
            ("bwp", 12, "bwp623e1c388032"),
            ("CNI-", 24, "CNI-623e1c388032b20529218ecc"),
        ] {
            assert_eq!(hashed(prefix, digits, "net", &attachment), name);
        }
    }
}
