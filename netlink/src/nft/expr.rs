//! What a rule looks at and what it does, as the `nft` program would write it.

mod service;
mod state;
mod xt;

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_core::{DefaultNla, NLA_F_NESTED};
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, Expressions, Immediate, ListAttribute, Lookup, Meta, MetaKey,
    Operator, Payload, Register, Verdict, VerdictAttribute,
};

pub use self::service::Service;
use super::{Attributes, Key};
use crate::mac::Mac;
use crate::request::emit;

/// `NFT_PAYLOAD_LL_HEADER`, `NFT_PAYLOAD_NETWORK_HEADER`, `NFT_PAYLOAD_TRANSPORT_HEADER`.
const LINK_HEADER: u32 = 0;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
/// `NF_DROP`.
const DROP: u32 = 0;

/// A rule's expressions, put together from left to right by [`Expr::then`].
#[derive(Clone, Debug, Default)]
pub struct Expr(Vec<Step>);

/// One expression as it lies in a message. It is written out at once: the packet crate works out the length of all that is
/// within an attribute anew for each level that is around it.
#[derive(Clone, Debug)]
struct Step(Vec<u8>);

impl Step {
    /// An expression by its name, with its attributes as they lie in a message.
    fn new(name: &str, data: Vec<u8>) -> Self {
        /// `NFTA_LIST_ELEM`, `NFTA_EXPR_NAME`, `NFTA_EXPR_DATA`.
        const ELEMENT: u16 = 1;
        const NAME: u16 = 1;
        const DATA: u16 = 2;
        let mut step = Vec::with_capacity(64);
        // Its length is filled in when it is known.
        put(&mut step, ELEMENT | NLA_F_NESTED, &[]);
        put(&mut step, NAME, &[name.as_bytes(), &[0]]);
        if !data.is_empty() {
            put(&mut step, DATA | NLA_F_NESTED, &[&data]);
        }
        let length = u16::try_from(step.len()).unwrap_or(u16::MAX);
        step[..2].copy_from_slice(&length.to_ne_bytes());
        Self(step)
    }
}

/// Appends an attribute, padded to the next multiple of four.
fn put(bytes: &mut Vec<u8>, kind: u16, value: &[&[u8]]) {
    let length = 4 + value.iter().map(|part| part.len()).sum::<usize>();
    let length = u16::try_from(length).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    value.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

impl From<Expressions> for Step {
    fn from(expression: Expressions) -> Self {
        match expression {
            Expressions::Bitwise(fields) => Self::new("bitwise", emit(&Attributes(&fields))),
            Expressions::Cmp(fields) => Self::new("cmp", emit(&Attributes(&fields))),
            Expressions::Immediate(fields) => Self::new("immediate", emit(&Attributes(&fields))),
            Expressions::Lookup(fields) => Self::new("lookup", emit(&Attributes(&fields))),
            Expressions::Meta(fields) => Self::new("meta", emit(&Attributes(&fields))),
            Expressions::Payload(fields) => Self::new("payload", emit(&Attributes(&fields))),
            other => Self(emit(&ListAttribute::from(other))),
        }
    }
}

/// Where an address stands in a packet.
#[derive(Clone, Copy)]
enum Field {
    Source,
    Destination,
}

impl Expr {
    /// `self`, and behind it `next`.
    #[must_use]
    pub fn then(mut self, mut next: Self) -> Self {
        self.0.append(&mut next.0);
        self
    }

    /// `ip saddr NETWORK` or `ip6 saddr NETWORK`.
    pub fn source_in(network: IpNetwork) -> Self {
        Self::within(Field::Source, network, true)
    }

    /// `ip daddr NETWORK` or `ip6 daddr NETWORK`.
    pub fn destination_in(network: IpNetwork) -> Self {
        Self::within(Field::Destination, network, true)
    }

    /// `ether saddr MAC`.
    pub fn ether_source(mac: Mac) -> Self {
        Self(vec![
            payload(LINK_HEADER, 6, 6),
            compare(mac.bytes().to_vec()),
        ])
    }

    /// `ip saddr vmap @MAP`.
    pub fn source_v4_verdict(map: &str) -> Self {
        Self::family(false).then(Self(vec![payload(NETWORK_HEADER, 12, 4), verdict_of(map)]))
    }

    /// `ip6 saddr vmap @MAP`.
    pub fn source_v6_verdict(map: &str) -> Self {
        Self::family(true).then(Self(vec![payload(NETWORK_HEADER, 8, 16), verdict_of(map)]))
    }

    /// `ip daddr vmap @MAP`.
    pub fn destination_v4_verdict(map: &str) -> Self {
        Self::family(false).then(Self(vec![payload(NETWORK_HEADER, 16, 4), verdict_of(map)]))
    }

    /// `ip6 daddr vmap @MAP`.
    pub fn destination_v6_verdict(map: &str) -> Self {
        Self::family(true).then(Self(vec![payload(NETWORK_HEADER, 24, 16), verdict_of(map)]))
    }

    /// `iifname vmap @MAP`.
    pub fn input_interface_verdict(map: &str) -> Self {
        Self(vec![load_meta(MetaKey::Iifname), verdict_of(map)])
    }

    /// `ip saddr @SET` or, where it is to be missing in it, `ip saddr != @SET`.
    pub fn source_v4_in_set(set: &str, inside: bool) -> Self {
        Self::family(false).then(Self(vec![
            payload(NETWORK_HEADER, 12, 4),
            member(set, inside),
        ]))
    }

    /// `ip6 saddr @SET`, or `!= @SET`.
    pub fn source_v6_in_set(set: &str, inside: bool) -> Self {
        Self::family(true).then(Self(vec![
            payload(NETWORK_HEADER, 8, 16),
            member(set, inside),
        ]))
    }

    /// `udp dport PORT`.
    pub fn udp_destination_port(port: u16) -> Self {
        /// `IPPROTO_UDP`.
        const UDP: u8 = 17;
        Self(vec![
            load_meta(MetaKey::L4Proto),
            compare(vec![UDP]),
            payload(TRANSPORT_HEADER, 2, 2),
            compare(port.to_be_bytes().to_vec()),
        ])
    }

    /// `oifname NAME`.
    pub fn output_interface(name: &str) -> Self {
        Self(vec![
            load_meta(MetaKey::Oifname),
            compare(Key::interface(name).0),
        ])
    }

    /// `fib daddr type local`: for this host itself.
    pub fn for_this_host() -> Self {
        /// `NFT_REG_1`, `NFT_FIB_RESULT_ADDRTYPE`, `NFTA_FIB_F_DADDR`, `RTN_LOCAL`.
        const REGISTER: u32 = 1;
        const ADDRESS_TYPE: u32 = 3;
        const DESTINATION: u32 = 2;
        const LOCAL: u32 = 2;
        let fields = [(1, REGISTER), (2, ADDRESS_TYPE), (3, DESTINATION)];
        Self(vec![
            untyped("fib", &fields),
            compare(LOCAL.to_ne_bytes().to_vec()),
        ])
    }

    /// `notrack`.
    pub fn notrack() -> Self {
        Self(vec![Step::new("notrack", Vec::new())])
    }

    /// `masquerade`.
    pub fn masquerade() -> Self {
        Self(vec![Step::new("masq", Vec::new())])
    }

    /// `accept`.
    pub fn accept() -> Self {
        /// `NF_ACCEPT`.
        const ACCEPT: u32 = 1;
        verdict(Verdict::Other(ACCEPT))
    }

    /// `return`.
    pub fn return_() -> Self {
        verdict(Verdict::Return)
    }

    /// `drop`.
    pub fn drop_() -> Self {
        verdict(Verdict::Other(DROP))
    }

    /// All of it as it lies in a message.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        let steps: Vec<_> = self.0.into_iter().map(|step| step.0).collect();
        steps.concat()
    }

    fn within(field: Field, network: IpNetwork, inside: bool) -> Self {
        let address = bytes(network.network());
        let length = u32::try_from(address.len()).unwrap_or_default();
        let offset = match (network, field) {
            (IpNetwork::V4(_), Field::Source) => 12,
            (IpNetwork::V4(_), Field::Destination) => 16,
            (IpNetwork::V6(_), Field::Source) => 8,
            (IpNetwork::V6(_), Field::Destination) => 24,
        };
        Self::family(network.is_ipv6()).then(Self(vec![
            payload(NETWORK_HEADER, offset, length),
            mask(bytes(network.mask())),
            compared(address, inside),
        ]))
    }

    /// `meta nfproto ipv4` or `ipv6`: what follows reads that family's header.
    fn family(v6: bool) -> Self {
        /// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
        const PROTOCOLS: [u8; 2] = [2, 10];
        Self(vec![
            load_meta(MetaKey::Nfproto),
            compare(vec![PROTOCOLS[usize::from(v6)]]),
        ])
    }
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn load_meta(key: MetaKey) -> Step {
    Expressions::Meta(vec![
        Meta::Key(key),
        Meta::DestinationRegister(Register::Reg1),
    ])
    .into()
}

fn payload(base: u32, offset: u32, length: u32) -> Step {
    Expressions::Payload(vec![
        Payload::DestinationRegister(Register::Reg1),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(length),
    ])
    .into()
}

fn mask(mask: Vec<u8>) -> Step {
    let length = u32::try_from(mask.len()).unwrap_or_default();
    let xor = vec![0; mask.len()];
    Expressions::Bitwise(vec![
        Bitwise::SourceRegister(Register::Reg1),
        Bitwise::DestinationRegister(Register::Reg1),
        Bitwise::Length(length),
        Bitwise::Mask(DataAttribute::Value(mask)),
        Bitwise::Xor(DataAttribute::Value(xor)),
    ])
    .into()
}

fn compare(value: Vec<u8>) -> Step {
    compared(value, true)
}

/// Whether what was loaded is, or is not, `value`.
fn compared(value: Vec<u8>, equal: bool) -> Step {
    let operator = if equal {
        Operator::Equal
    } else {
        Operator::NotEqual
    };
    Expressions::Cmp(vec![
        Cmp::SourceRegister(Register::Reg1),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(value)),
    ])
    .into()
}

fn verdict_of(map: &str) -> Step {
    Expressions::Lookup(vec![
        Lookup::Set(map.to_owned()),
        Lookup::SourceRegister(Register::Reg1),
        Lookup::DestinationRegister(Register::Verdict),
    ])
    .into()
}

/// Whether what was loaded is in a set.
fn member(set: &str, inside: bool) -> Step {
    /// `NFT_LOOKUP_F_INV`.
    const INVERTED: u32 = 1;
    Expressions::Lookup(vec![
        Lookup::Set(set.to_owned()),
        Lookup::SourceRegister(Register::Reg1),
        Lookup::Flags(if inside { 0 } else { INVERTED }),
    ])
    .into()
}

/// An expression that the packet crate has no type for, of numbers in the network's order.
fn untyped(name: &str, fields: &[(u16, u32)]) -> Step {
    let data = fields
        .iter()
        .flat_map(|(kind, value)| emit(&DefaultNla::new(*kind, value.to_be_bytes().to_vec())))
        .collect();
    Step::new(name, data)
}

fn verdict(code: Verdict) -> Expr {
    Expr(vec![
        Expressions::Immediate(vec![
            Immediate::DestinationRegister(Register::Verdict),
            Immediate::Data(DataAttribute::Verdict(vec![VerdictAttribute::Code(code)])),
        ])
        .into(),
    ])
}
