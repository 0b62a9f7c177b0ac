//! The names by which an attachment's traces in the kernel are found again, with no state kept anywhere.
//!
//! A host link's name, a link's alias and the comment of a rule or of a set element are functions of the network and
//! the attachment alone, so DEL, CHECK and GC need neither `prevResult` nor the old configuration nor the netns.

use sha2::{Digest, Sha256};

use crate::Attachment;

/// How many bytes a link's alias holds (`IFALIASZ` in `include/uapi/linux/if.h`, less the closing zero).
pub const ALIAS_MAX: usize = 255;

/// How many bytes the comment of an nftables rule or set element holds (`NFT_USERDATA_MAXLEN`, less what `nft` wraps
/// around it, by its own limit of 128 with the closing zero).
pub const COMMENT_MAX: usize = 127;

/// The name of the attachment's link on the host: `veth` and 11 hex digits, 15 bytes, as long as the kernel allows.
pub fn host_link_name(attachment: &Attachment) -> String {
    let input = format!("{}\n{}", attachment.container_id, attachment.ifname);
    format!("veth{}", digest(&input, 11))
}

/// A MAC address of the attachment's own, locally administered and for one station (IEEE 802, clause 8.2): `end`
/// tells apart the two ends of its link. The same attachment gets the same address each time.
pub fn mac(attachment: &Attachment, end: &str) -> [u8; 6] {
    let input = format!("{}\n{}\n{end}", attachment.container_id, attachment.ifname);
    let digest = Sha256::digest(input.as_bytes());
    let mut mac = [0; 6];
    mac.copy_from_slice(&digest[..6]);
    mac[0] = (mac[0] | 0b10) & !0b1;
    mac
}

/// `heddle/<network>/<container id>/<ifname>` in at most `max` bytes: if the plain form is longer, network and
/// container id are each replaced by `#` and 16 hex digits of their hash. `max` must be at least 60.
/// See [`ALIAS_MAX`] and [`COMMENT_MAX`].
pub fn mark(network: &str, attachment: &Attachment, max: usize) -> String {
    let Attachment {
        container_id,
        ifname,
    } = attachment;
    let plain = format!("heddle/{network}/{container_id}/{ifname}");
    if plain.len() <= max {
        return plain;
    }
    format!(
        "heddle/{}/{}/{ifname}",
        hashed(network),
        hashed(container_id)
    )
}

/// Whether `mark` was made by [`mark`] for an attachment to `network`.
pub fn belongs_to(mark: &str, network: &str) -> bool {
    mark.strip_prefix("heddle/")
        .and_then(|rest| rest.split_once('/'))
        .is_some_and(|(net, _)| net == network || net == hashed(network))
}

/// The network and attachment that [`mark`] was made for; `None` when it is none of ours, or had to hash the names.
pub fn parse_mark(mark: &str) -> Option<(String, Attachment)> {
    let mut parts = mark.strip_prefix("heddle/")?.split('/');
    let (network, container_id, ifname) = (parts.next()?, parts.next()?, parts.next()?);
    if network.starts_with('#') {
        return None;
    }
    let attachment = Attachment {
        container_id: container_id.to_owned(),
        ifname: ifname.to_owned(),
    };
    Some((network.to_owned(), attachment))
}

/// Whether two marks are those of attachments of one container.
pub fn same_container(mark: &str, other: &str) -> bool {
    let id = |mark: &str| {
        mark.strip_prefix("heddle/")?
            .split('/')
            .nth(1)
            .map(str::to_owned)
    };
    match (id(mark), id(other)) {
        (Some(one), Some(two)) => one == two || hashed(&one) == two || one == hashed(&two),
        _ => false,
    }
}

fn hashed(part: &str) -> String {
    format!("#{}", digest(part, 16))
}

/// The first `digits`, at most 64, hex digits of the SHA-256 of `input`.
pub fn digest(input: &str, digits: usize) -> String {
    let hash = Sha256::digest(input.as_bytes());
    let nibbles = hash.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles
        .take(digits)
        .filter_map(|nibble| char::from_digit(nibble.into(), 16))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(container_id: &str, ifname: &str) -> Attachment {
        Attachment {
            container_id: container_id.into(),
            ifname: ifname.into(),
        }
    }

    #[test]
    fn names_do_not_change_from_release_to_release() {
        // printf 'c1\neth0' | sha256sum: a pod that is up must be found by the next release as well.
        let a = attachment("c1", "eth0");
        assert_eq!(host_link_name(&a), "veth9bb0edf9ca5");
        assert_eq!(mark("net", &a, ALIAS_MAX), "heddle/net/c1/eth0");
        assert_ne!(
            host_link_name(&a),
            host_link_name(&attachment("c1", "eth1"))
        );
        assert_ne!(
            host_link_name(&attachment("c", "1eth0")),
            host_link_name(&attachment("c1", "eth0"))
        );
    }

    #[test]
    fn mac_addresses_are_local_unicast_and_differ_by_end() {
        let a = attachment("c1", "eth0");
        for end in ["host", "container"] {
            assert_eq!(mac(&a, end)[0] & 0b11, 0b10);
            assert_eq!(mac(&a, end), mac(&a, end));
        }
        assert_ne!(mac(&a, "host"), mac(&a, "container"));
    }

    #[test]
    fn a_mark_fits_and_tells_its_network() {
        let long = "a-network-whose-name-is-quite-long";
        let id = "0123456789abcdef".repeat(16);
        for (network, id, ifname) in [
            ("n", "c", "e"),
            (long, "c", "e"),
            ("n", id.as_str(), "fifteen-bytes-a"),
            (long, id.as_str(), "fifteen-bytes-a"),
        ] {
            let a = attachment(id, ifname);
            for max in [ALIAS_MAX, COMMENT_MAX, 60] {
                let mark = mark(network, &a, max);
                assert!(mark.len() <= max, "{mark}");
                assert!(belongs_to(&mark, network), "{mark}");
                for other in ["", "x", "heddle", "n-", "a-network-whose-name-is-quite-lon"] {
                    assert!(!belongs_to(&mark, other), "{mark} of {other}");
                }
            }
        }
        assert_eq!(
            mark(long, &attachment(&id, "eth0"), COMMENT_MAX),
            "heddle/#efb05cf6f675a9bc/#2f8ab27c794db6af/eth0"
        );
        for foreign in ["", "heddle", "heddle/", "heddle/n", "other/n/c/e"] {
            assert!(!belongs_to(foreign, "n"), "{foreign}");
            assert!(!same_container(foreign, "heddle/n/c/e"), "{foreign}");
        }
    }

    #[test]
    fn a_container_is_known_by_each_of_its_marks() {
        let id = "0123456789abcdef".repeat(4);
        let of = |network: &str, id: &str| mark(network, &attachment(id, "eth0"), COMMENT_MAX);
        let (short, hashed) = (of("n", &id), of(&"n".repeat(90), &id));
        assert!(hashed.contains('#'), "{hashed}");
        for (one, two) in [(&short, &hashed), (&hashed, &short), (&hashed, &hashed)] {
            assert!(same_container(one, two), "{one} {two}");
        }
        assert!(!same_container(&short, &of("n", "c")));
        assert!(!same_container(
            &hashed,
            &of(&"n".repeat(90), &"c".repeat(64))
        ));
    }
}
