//! The names by which an attachment's traces in the kernel are found again, with no state kept anywhere.
//!
//! A host link's name, a link's alias and the comment of a rule or of a set element are functions of the network and
//! the attachment alone, so DEL, CHECK and GC need neither `prevResult` nor the old configuration nor the netns.

use sha2::{Digest, Sha256};

use crate::Attachment;

/// The name of the attachment's link on the host: `veth` and 11 hex digits, 15 bytes, as long as the kernel allows.
pub fn host_link_name(attachment: &Attachment) -> String {
    let input = format!("{}\n{}", attachment.container_id, attachment.ifname);
    format!("veth{}", hex(&input, 11))
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
/// A link's alias holds 255 bytes, the comment of an nftables rule or set element 127.
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

fn hashed(part: &str) -> String {
    format!("#{}", hex(part, 16))
}

fn hex(input: &str, digits: usize) -> String {
    let mut out = String::with_capacity(64);
    for byte in Sha256::digest(input.as_bytes()) {
        for nibble in [byte >> 4, byte & 15] {
            out.extend(char::from_digit(u32::from(nibble), 16));
        }
    }
    out.truncate(digits);
    out
}
