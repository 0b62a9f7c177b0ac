//! The service that a packet asks for, protocol and port with or without the address, looked up in maps
//! whose keys are `Key::service` or `Key::service_at`.

use netlink_packet_netfilter::nftables::{Expressions, Lookup, Meta, MetaKey, Payload, Register};

use super::{Expr, NETWORK_HEADER, Step, TRANSPORT_HEADER, member, untyped};

/// How a map of services is keyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Packets of IPv6; otherwise of IPv4.
    pub v6: bool,
    /// By the destination address too: `ip daddr . meta l4proto . th dport`.
    pub by_address: bool,
}

impl Expr {
    /// `meta l4proto . th dport vmap @MAP`.
    pub fn service_verdict(service: Service, map: &str) -> Self {
        Self::family(service.v6)
            .then(Self(service.load()))
            .then(look_up(map, Register::Verdict))
    }

    /// `meta l4proto . th dport . iifname @SET`.
    pub fn service_by_link(service: Service, set: &str) -> Self {
        let link = match (service.by_address, service.v6) {
            (false, _) => Register::Reg32_02,
            (true, false) => Register::Reg32_03,
            (true, true) => Register::Reg32_06,
        };
        Self::family(service.v6)
            .then(Self(service.load()))
            .then(Self(vec![meta(MetaKey::Iifname, link), member(set, true)]))
    }

    /// `dnat ip to meta l4proto . th dport map @MAP`.
    pub fn service_dnat(service: Service, map: &str) -> Self {
        /// `NFTA_NAT_TYPE`, `_FAMILY`, `_REG_ADDR_MIN`, `_REG_PROTO_MIN`; `NFT_NAT_DNAT`.
        const FIELDS: [u16; 4] = [1, 2, 3, 5];
        const DNAT: u32 = 1;
        let (family, port) = match service.v6 {
            false => (2, Register::Reg32_01),
            true => (10, Register::Reg2),
        };
        let values = [DNAT, family, Register::Reg1.into(), port.into()];
        let fields: Vec<_> = FIELDS.into_iter().zip(values).collect();
        Self::family(service.v6)
            .then(Self(service.load()))
            .then(look_up(map, Register::Reg1))
            .then(Self(vec![untyped("nat", &fields)]))
    }
}

impl Service {
    /// The key, its parts side by side in registers of four bytes.
    fn load(self) -> Vec<Step> {
        let (mut steps, protocol, port) = match (self.by_address, self.v6) {
            (false, _) => (Vec::new(), Register::Reg1, Register::Reg32_01),
            (true, false) => (
                vec![header(Register::Reg1, NETWORK_HEADER, 16, 4)],
                Register::Reg32_01,
                Register::Reg32_02,
            ),
            (true, true) => (
                vec![header(Register::Reg1, NETWORK_HEADER, 24, 16)],
                Register::Reg2,
                Register::Reg32_05,
            ),
        };
        steps.push(meta(MetaKey::L4Proto, protocol));
        steps.push(header(port, TRANSPORT_HEADER, 2, 2));
        steps
    }
}

fn meta(key: MetaKey, register: Register) -> Step {
    Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(register)]).into()
}

fn header(register: Register, base: u32, offset: u32, length: u32) -> Step {
    Expressions::Payload(vec![
        Payload::DestinationRegister(register),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(length),
    ])
    .into()
}

fn look_up(map: &str, into: Register) -> Expr {
    Expr(vec![
        Expressions::Lookup(vec![
            Lookup::Set(map.to_owned()),
            Lookup::SourceRegister(Register::Reg1),
            Lookup::DestinationRegister(into),
        ])
        .into(),
    ])
}
