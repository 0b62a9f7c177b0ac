//! Expressions that the `iptables` program understands, for rules in tables that are its own.

use std::net::IpAddr;

use netlink_packet_core::DefaultNla;

use super::{Expr, Field, NETWORK_HEADER, Step, bytes, compare, payload};
use crate::request::emit;

impl Expr {
    /// `-s ADDRESS`, in a table of the address's family.
    pub fn iptables_source(address: IpAddr) -> Self {
        Self::iptables_address(Field::Source, address)
    }

    /// `-d ADDRESS`, in a table of the address's family.
    pub fn iptables_destination(address: IpAddr) -> Self {
        Self::iptables_address(Field::Destination, address)
    }

    /// `-m conntrack --ctstate RELATED,ESTABLISHED,DNAT`: `struct xt_conntrack_mtinfo3` of
    /// include/uapi/linux/netfilter/xt_conntrack.h, by way of `nft_compat`.
    pub fn iptables_known_or_dnat() -> Self {
        /// Length of the structure, in whole words of eight bytes, and where the fields stand.
        const LENGTH: usize = 168;
        const MATCH_FLAGS: usize = 146;
        const STATE_MASK: usize = 150;
        /// `XT_CONNTRACK_STATE`; the bits of the three states.
        const BY_STATE: u16 = 1;
        const STATES: u16 = (1 << 1) | (1 << 2) | (1 << 7);
        const REVISION: u32 = 3;
        let mut info = vec![0; LENGTH];
        info[MATCH_FLAGS..MATCH_FLAGS + 2].copy_from_slice(&BY_STATE.to_ne_bytes());
        info[STATE_MASK..STATE_MASK + 2].copy_from_slice(&STATES.to_ne_bytes());
        // NFTA_MATCH_NAME, NFTA_MATCH_REV, NFTA_MATCH_INFO.
        let mut data = emit(&DefaultNla::new(1, b"conntrack\0".to_vec()));
        data.extend(emit(&DefaultNla::new(2, REVISION.to_be_bytes().to_vec())));
        data.extend(emit(&DefaultNla::new(3, info)));
        Self(vec![Step::new("match", data)])
    }

    fn iptables_address(field: Field, address: IpAddr) -> Self {
        let (offset, length) = match (address, field) {
            (IpAddr::V4(_), Field::Source) => (12, 4),
            (IpAddr::V4(_), Field::Destination) => (16, 4),
            (IpAddr::V6(_), Field::Source) => (8, 16),
            (IpAddr::V6(_), Field::Destination) => (24, 16),
        };
        Self(vec![
            payload(NETWORK_HEADER, offset, length),
            compare(bytes(address)),
        ])
    }
}
