//! Attributes of the kernel's answers, taken apart only as far as they are used: the packet crates would read every
//! attribute that there is, and that is an eighth of the program.

use std::net::IpAddr;

use netlink_packet_core::{DecodeError, NlaBuffer, NlasIterator, Parseable};

use crate::error::{Error, Result};
use crate::mac::Mac;

/// Hands over type and value of each attribute; `about` says what they are of, should they be malformed.
pub(crate) fn each(
    about: &'static str,
    attributes: &[u8],
    take: &mut dyn FnMut(u16, &[u8]) -> Result<()>,
) -> Result<()> {
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.map_err(Error::decode(about))?;
        take(attribute.kind(), attribute.value())?;
    }
    Ok(())
}

/// All attributes of a nest, as a packet crate reads them.
pub(crate) fn all<T>(about: &'static str, nested: &[u8]) -> Result<Vec<T>>
where
    T: for<'a> Parseable<NlaBuffer<&'a [u8]>>,
{
    let parse = |attribute: std::result::Result<NlaBuffer<_>, DecodeError>| T::parse(&attribute?);
    let all: std::result::Result<_, _> = NlasIterator::new(nested).map(parse).collect();
    all.map_err(Error::decode(about))
}

/// The fixed part of a message, and its attributes.
pub(crate) fn split<'a, const N: usize>(
    about: &'static str,
    payload: &'a [u8],
) -> Result<(&'a [u8; N], &'a [u8])> {
    let short = || Error::decode(about)("a message that is cut short".into());
    payload.split_first_chunk().ok_or_else(short)
}

/// Text that ends with a zero byte, or with the attribute.
pub(crate) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&value[..end.unwrap_or(value.len())]).into_owned()
}

/// A number of four bytes; 0 for anything else.
pub(crate) fn number(value: &[u8]) -> u32 {
    value.try_into().map_or(0, u32::from_ne_bytes)
}

/// A hardware address, where it has six bytes.
pub(crate) fn mac(value: &[u8]) -> Option<Mac> {
    <[u8; 6]>::try_from(value).ok().map(Mac::from)
}

/// An address of either family.
pub(crate) fn ip(value: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(value).ok().map(IpAddr::from);
    v4().or_else(|| <[u8; 16]>::try_from(value).ok().map(IpAddr::from))
}
