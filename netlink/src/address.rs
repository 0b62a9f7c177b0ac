//! Addresses of links.

use std::net::Ipv4Addr;

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};

use crate::attributes::{each, ip, number, split};
use crate::error::Result;
use crate::request::{Request, emit};
use crate::socket::Socket;

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;

const ABOUT: &str = "an address";
/// Length of `struct ifaddrmsg`.
const HEADER: usize = 8;

// include/uapi/linux/if_addr.h
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_F_OPTIMISTIC: u32 = 0x04;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_TENTATIVE: u32 = 0x40;

/// An address as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Index of the link that carries it.
    pub index: u32,
    /// The address with its prefix length.
    pub network: IpNetwork,
    /// Whether IPv6 still looks for another owner, so that it cannot be used yet.
    pub tentative: bool,
    /// Whether IPv6 found another owner.
    pub duplicate: bool,
}

/// How an address is to be added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// IPv6: do not look for another owner first (`IFA_F_NODAD`).
    pub nodad: bool,
    /// IPv6: usable while another owner is looked for (`IFA_F_OPTIMISTIC`, RFC 4429); the link's sysctl
    /// `optimistic_dad` has to be on.
    pub optimistic: bool,
    /// Make no route to its subnet (`IFA_F_NOPREFIXROUTE`).
    pub noprefixroute: bool,
}

/// Adds an address. Equals `ip address add ADDRESS/LEN [brd +] dev NAME [nodad] [optimistic] [noprefixroute]`.
pub fn add(index: u32, network: IpNetwork, flags: Flags) -> Request {
    let mut message = message(index, network);
    if let Some(broadcast) = broadcast(network) {
        message
            .attributes
            .push(AddressAttribute::Broadcast(broadcast));
    }
    let mut bits = AddressFlags::empty();
    bits.set(AddressFlags::Nodad, flags.nodad && network.is_ipv6());
    bits.set(
        AddressFlags::Optimistic,
        flags.optimistic && network.is_ipv6(),
    );
    bits.set(AddressFlags::Noprefixroute, flags.noprefixroute);
    if !bits.is_empty() {
        message.attributes.push(AddressAttribute::Flags(bits));
    }
    Request::new(
        RTM_NEWADDR,
        NLM_F_CREATE | NLM_F_EXCL,
        &message,
        "add",
        object(index, network),
    )
}

/// Deletes an address. Equals `ip address delete ADDRESS/LEN dev NAME`.
pub fn delete(index: u32, network: IpNetwork) -> Request {
    Request::new(
        RTM_DELADDR,
        0,
        &message(index, network),
        "delete",
        object(index, network),
    )
}

fn object(index: u32, network: IpNetwork) -> String {
    format!("address {network} of link {index}")
}

fn message(index: u32, network: IpNetwork) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = network.prefix();
    message.header.family = match network {
        IpNetwork::V4(_) => AddressFamily::Inet,
        IpNetwork::V6(_) => AddressFamily::Inet6,
    };
    if network.ip().is_loopback() {
        message.header.scope = AddressScope::Host;
    }
    message.attributes = vec![
        AddressAttribute::Local(network.ip()),
        AddressAttribute::Address(network.ip()),
    ];
    message
}

/// The broadcast address of an IPv4 subnet that has room for one.
fn broadcast(network: IpNetwork) -> Option<Ipv4Addr> {
    match network {
        IpNetwork::V4(v4) if v4.prefix() < 31 && !v4.ip().is_loopback() => Some(v4.broadcast()),
        _ => None,
    }
}

pub(crate) fn list(socket: &mut Socket, index: Option<u32>) -> Result<Vec<Address>> {
    let mut message = AddressMessage::default();
    message.header.index = index.unwrap_or_default();
    socket.dump(RTM_GETADDR, &emit(&message), "addresses", |_, payload| {
        let found = parse(payload)?;
        Ok(found.filter(|address| index.is_none_or(|index| index == address.index)))
    })
}

pub(crate) fn parse(payload: &[u8]) -> Result<Option<Address>> {
    let (header, attributes) = split::<HEADER>(ABOUT, payload)?;
    let (mut local, mut address, mut flags) = (None, None, u32::from(header[2]));
    each(ABOUT, attributes, &mut |kind, value| {
        match kind {
            IFA_LOCAL => local = ip(value),
            IFA_ADDRESS => address = ip(value),
            IFA_FLAGS => flags = number(value),
            _ => {}
        }
        Ok(())
    })?;
    // On a point-to-point link ADDRESS is the peer's and LOCAL is ours; IPv6 mostly sends ADDRESS alone.
    let network = local
        .or(address)
        .and_then(|ip| IpNetwork::new(ip, header[1]).ok());
    Ok(network.map(|network| Address {
        index: number(&header[4..]),
        network,
        tentative: flags & IFA_F_TENTATIVE != 0 && flags & IFA_F_OPTIMISTIC == 0,
        duplicate: flags & IFA_F_DADFAILED != 0,
    }))
}
