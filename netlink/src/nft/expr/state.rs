//! What is known of a packet beside its headers: mark, interfaces, connection; and going on in other chains.

use ipnetwork::IpNetwork;
use netlink_packet_netfilter::nftables::{
    Bitwise, DataAttribute, Expressions, Immediate, Meta, MetaKey, Register, Verdict,
    VerdictAttribute,
};

use super::{
    Expr, Field, Key, Step, TRANSPORT_HEADER, compare, compared, load_meta, mask, member, payload,
    untyped,
};

/// `NFT_CT_STATE` and `NFT_CT_STATUS`, include/uapi/linux/netfilter/nf_tables.h.
const STATE: u32 = 0;
const STATUS: u32 = 2;

impl Expr {
    /// `ip saddr NETWORK`, or `!= NETWORK`.
    pub fn source(network: IpNetwork, inside: bool) -> Self {
        Self::within(Field::Source, network, inside)
    }

    /// `ip daddr NETWORK`, or `!= NETWORK`.
    pub fn destination(network: IpNetwork, inside: bool) -> Self {
        Self::within(Field::Destination, network, inside)
    }

    /// `iifname NAME`, or `!= NAME`.
    pub fn input_interface(name: &str, equal: bool) -> Self {
        Self(vec![
            load_meta(MetaKey::Iifname),
            compared(Key::interface(name).0, equal),
        ])
    }

    /// `oifname != NAME`.
    pub fn output_interface_not(name: &str) -> Self {
        Self(vec![
            load_meta(MetaKey::Oifname),
            compared(Key::interface(name).0, false),
        ])
    }

    /// `iifname @SET`.
    pub fn input_interface_in_set(set: &str) -> Self {
        Self(vec![load_meta(MetaKey::Iifname), member(set, true)])
    }

    /// `th sport PORT`, or `!= PORT`.
    pub fn source_port(port: u16, equal: bool) -> Self {
        Self(vec![
            payload(TRANSPORT_HEADER, 0, 2),
            compared(port.to_be_bytes().to_vec(), equal),
        ])
    }

    /// `meta mark VALUE`, or `!= VALUE`.
    pub fn mark(value: u32, equal: bool) -> Self {
        Self(vec![
            load_meta(MetaKey::Mark),
            compared(value.to_ne_bytes().to_vec(), equal),
        ])
    }

    /// `meta mark & BITS == BITS`.
    pub fn has_mark(bits: u32) -> Self {
        Self(vec![
            load_meta(MetaKey::Mark),
            mask(bits.to_ne_bytes().to_vec()),
            compare(bits.to_ne_bytes().to_vec()),
        ])
    }

    /// `meta mark set meta mark | BITS`.
    pub fn add_mark(bits: u32) -> Self {
        Self(vec![
            load_meta(MetaKey::Mark),
            Expressions::Bitwise(vec![
                Bitwise::SourceRegister(Register::Reg1),
                Bitwise::DestinationRegister(Register::Reg1),
                Bitwise::Length(4),
                Bitwise::Mask(DataAttribute::Value((!bits).to_ne_bytes().to_vec())),
                Bitwise::Xor(DataAttribute::Value(bits.to_ne_bytes().to_vec())),
            ])
            .into(),
            Expressions::Meta(vec![
                Meta::Key(MetaKey::Mark),
                Meta::SourceRegister(Register::Reg1),
            ])
            .into(),
        ])
    }

    /// `ct state established,related`.
    pub fn connection_is_known() -> Self {
        /// `NF_CT_STATE_BIT(IP_CT_ESTABLISHED)` and `(IP_CT_RELATED)`.
        const KNOWN: u32 = 0b110;
        Self::connection(STATE, KNOWN, true)
    }

    /// `ct state established`.
    pub fn connection_is_established() -> Self {
        /// `NF_CT_STATE_BIT(IP_CT_ESTABLISHED)`.
        const ESTABLISHED: u32 = 0b10;
        Self::connection(STATE, ESTABLISHED, true)
    }

    /// `ct status & (snat | dnat) == 0`: its addresses and ports are the same before and behind this host.
    pub fn connection_has_no_nat() -> Self {
        /// `IPS_NAT_MASK`.
        const NAT: u32 = 0x30;
        Self::connection(STATUS, NAT, false)
    }

    /// `ct status dnat`.
    pub fn connection_has_dnat() -> Self {
        /// `IPS_DST_NAT`.
        const DNAT: u32 = 0x20;
        Self::connection(STATUS, DNAT, true)
    }

    /// `jump CHAIN`.
    pub fn jump(chain: &str) -> Self {
        Self(vec![to(Verdict::Jump, chain)])
    }

    /// `goto CHAIN`.
    pub fn goto(chain: &str) -> Self {
        Self(vec![to(Verdict::Goto, chain)])
    }

    /// `ct KEY & BITS != 0`, or `== 0`.
    fn connection(key: u32, bits: u32, any: bool) -> Self {
        /// `NFTA_CT_DREG`, `NFTA_CT_KEY`.
        const FIELDS: [u16; 2] = [1, 2];
        Self(vec![
            untyped(
                "ct",
                &[(FIELDS[0], Register::Reg1.into()), (FIELDS[1], key)],
            ),
            mask(bits.to_ne_bytes().to_vec()),
            compared(vec![0; 4], !any),
        ])
    }
}

fn to(verdict: Verdict, chain: &str) -> Step {
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(DataAttribute::Verdict(vec![
            VerdictAttribute::Code(verdict),
            VerdictAttribute::Chain(chain.to_owned()),
        ])),
    ])
    .into()
}
