//! Netlink messages as they lie in a datagram: put together, taken apart, and what an error in one says.

use netlink_packet_core::{DecodeError, NLM_F_ACK_TLVS, NLM_F_CAPPED, NlasIterator};
use nix::errno::Errno;

use crate::error::{Error, Result};

/// Length of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;
pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;
pub(super) const NLMSG_OVERRUN: u16 = 4;
/// `NLMSGERR_ATTR_MSG`, include/uapi/linux/netlink.h.
const EXT_ACK_TEXT: u16 = 1;

/// One message as it came in.
pub(crate) struct Incoming<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub payload: &'a [u8],
}

/// Appends one message, padded to the next multiple of four.
pub(crate) fn push(bytes: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, payload: &[u8]) {
    let length = HEADER + payload.len();
    // No request comes near 4 GiB.
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&0_u32.to_ne_bytes());
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// The first message of a datagram, and what is behind it.
pub(crate) fn split(bytes: &[u8]) -> Result<(Incoming<'_>, &[u8])> {
    let short = || malformed(format!("a message of {} bytes is cut short", bytes.len()));
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let half = |at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let parse = || {
        let length = word(0)? as usize;
        let payload = bytes.get(HEADER..length)?;
        let behind = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((
            Incoming {
                kind: half(4)?,
                flags: half(6)?,
                sequence: word(8)?,
                payload,
            },
            behind,
        ))
    };
    parse().ok_or_else(short)
}

/// What an error message (or the end of a dump) says went wrong; `None` for an acknowledgement and
/// for every other message.
pub(crate) fn refusal(message: &Incoming) -> Option<(Errno, Option<String>)> {
    if !matches!(message.kind, NLMSG_ERROR | NLMSG_DONE) {
        return None;
    }
    let code = i32::from_ne_bytes(message.payload.get(..4)?.try_into().ok()?);
    if code >= 0 {
        return None;
    }
    Some((Errno::from_raw(-code), explanation(message)))
}

/// The kernel's own words, from the attributes behind the error (extended ACK).
fn explanation(message: &Incoming) -> Option<String> {
    if message.flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    // An error is followed by the header of the request, and by all of it unless capped.
    let attributes = match message.kind {
        NLMSG_DONE => 4,
        _ if message.flags & NLM_F_CAPPED != 0 => 4 + HEADER,
        _ => {
            4 + (u32::from_ne_bytes(message.payload.get(4..8)?.try_into().ok()?) as usize)
                .next_multiple_of(4)
        }
    };
    NlasIterator::new(message.payload.get(attributes..)?)
        .filter_map(std::result::Result::ok)
        .find(|attribute| attribute.kind() == EXT_ACK_TEXT)
        .map(|attribute| {
            String::from_utf8_lossy(attribute.value())
                .trim_end_matches('\0')
                .to_owned()
        })
}

/// What came in is no netlink message.
pub(super) fn malformed(why: String) -> Error {
    Error::Decode {
        about: "netlink",
        source: DecodeError::from(why),
    }
}
