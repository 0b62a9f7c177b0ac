//! Bytes from the kernel, or from anybody who claims to be it, into every reader: none of them panics. For the tests of this
//! crate and for `fuzz/`; not part of a build.

use netlink_packet_core::NlasIterator;

use crate::nft::{Family, Table};
use crate::socket::wire::split;
use crate::{address, conntrack, fdb, link, neighbour, nexthop, nft, route, rule, socket, tc};

const TABLE: Table = Table {
    family: Family::Inet,
    name: "heddle_cni",
};

/// A datagram with as many messages as there are in it. Says how many that were.
pub fn datagram(bytes: &[u8]) -> usize {
    let (mut rest, mut messages) = (bytes, 0);
    while let Ok((message, behind)) = split(rest) {
        let _ = socket::refusal(&message);
        payload(message.payload);
        messages += 1;
        rest = behind;
    }
    messages
}

/// What a message carries, as each kind of object that it may be.
fn payload(bytes: &[u8]) {
    let _ = address::parse(bytes);
    let _ = conntrack::parse(bytes);
    let _ = fdb::parse(bytes);
    let _ = link::read::link(bytes);
    let _ = link::settings::parse(bytes);
    let _ = neighbour::parse(bytes);
    let _ = nexthop::parse(bytes);
    let _ = nft::chain::parse(TABLE, bytes);
    let _ = nft::element::parse(bytes);
    let _ = nft::rule::parse(bytes);
    let _ = nft::rule::parse_handle(bytes);
    let _ = route::read::parse(bytes);
    let _ = route::refusing::parse(bytes);
    let _ = rule::parse(bytes);
    let _ = tc::parse(bytes);
    let _ = NlasIterator::new(bytes).count();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::socket::push;

    /// Attributes as the kernel writes them: often of small types, often nested, sometimes cut short.
    fn attributes() -> impl Strategy<Value = Vec<u8>> {
        let leaf = prop::collection::vec(any::<u8>(), 0..24);
        leaf.prop_recursive(4, 64, 6, |inner| {
            prop::collection::vec((0_u16..64, any::<bool>(), inner, 0_u16..8), 0..6).prop_map(
                |attributes| {
                    let mut bytes = Vec::new();
                    for (kind, nested, value, lie) in attributes {
                        // One in eight says that it is longer or shorter than it is.
                        let length = value.len() as u16 + 4 + if lie == 0 { 7 } else { 0 };
                        bytes.extend(length.to_ne_bytes());
                        bytes.extend((kind | u16::from(nested) << 15).to_ne_bytes());
                        bytes.extend(value);
                        bytes.resize(bytes.len().next_multiple_of(4), 0);
                    }
                    bytes
                },
            )
        })
    }

    fn messages() -> impl Strategy<Value = Vec<u8>> {
        let header = prop::collection::vec(any::<u8>(), 0..20);
        let message = (0_u16..0x0c20, any::<u16>(), header, attributes());
        prop::collection::vec(message, 0..4).prop_map(|messages| {
            let mut bytes = Vec::new();
            for (kind, flags, header, attributes) in messages {
                push(&mut bytes, kind, flags, 1, &[header, attributes].concat());
            }
            bytes
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        #[test]
        fn anything(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            datagram(&bytes);
        }

        #[test]
        fn almost_the_kernels(bytes in messages(), cut in any::<prop::sample::Index>()) {
            datagram(&bytes);
            datagram(&bytes[..cut.index(bytes.len() + 1)]);
        }
    }

    /// An element whose value is no attribute, and one whose value says that it is longer than it is.
    #[test]
    fn elements_that_are_cut_short() {
        let attribute = |kind: u16, value: &[u8]| {
            let mut bytes = (value.len() as u16 + 4).to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        for inner in [&[][..], &[1, 0, 0, 0], &[40, 0, 1, 0], &[3, 0]] {
            let element = attribute(1, &attribute(2, inner));
            let list = [vec![0; 4], attribute(3, &element)].concat();
            let mut bytes = Vec::new();
            push(&mut bytes, 0x0a0c, 0, 1, &list);
            assert_eq!(datagram(&bytes), 1);
        }
    }

    /// As long as the longest datagram, of the shortest messages and of the shortest attributes.
    #[test]
    fn long_ones_are_read_through() {
        let mut shortest = Vec::new();
        while shortest.len() < 64 * 1024 {
            push(&mut shortest, 16, 0, 1, &[]);
        }
        assert_eq!(datagram(&shortest), 4096);
        let attributes = [4, 0, 1, 0].repeat(16 * 1024);
        let mut one = Vec::new();
        push(&mut one, 16, 0, 1, &attributes);
        assert_eq!(datagram(&one), 1);
    }
}
