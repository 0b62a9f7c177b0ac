//! Sets and verdict maps, and the keys of their elements.

use std::net::IpAddr;

use netlink_packet_netfilter::nftables::{SetAttribute, SetFlags};

use super::Table;

/// `NFT_DATA_VERDICT`.
const VERDICT: u32 = 0xffff_ff00;

/// What a set's keys are; the `nft` program knows them by these numbers (its `datatype.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `ipv4_addr`.
    Ipv4Address,
    /// `ipv6_addr`.
    Ipv6Address,
    /// `ifname`.
    InterfaceName,
}

/// A set to be made, plain or a verdict map.
#[derive(Debug)]
pub struct Set<'a> {
    /// Its name.
    pub name: &'a str,
    /// What its keys are.
    pub key: Type,
    /// Whether each key has a verdict.
    pub verdicts: bool,
}

/// The key of one element, as the kernel compares it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub(super) Vec<u8>);

impl Type {
    fn number(self) -> u32 {
        match self {
            Self::Ipv4Address => 7,
            Self::Ipv6Address => 8,
            Self::InterfaceName => 41,
        }
    }

    /// User data that lets the `nft` program show the keys: type 0 (`NFTNL_UDATA_SET_KEYBYTEORDER` of
    /// libnftnl), four bytes, 1 for the host's order and 2 for the network's.
    fn byte_order(self) -> Vec<u8> {
        let order: u32 = match self {
            Self::InterfaceName => 1,
            Self::Ipv4Address | Self::Ipv6Address => 2,
        };
        let mut bytes = vec![0, 4];
        bytes.extend(order.to_ne_bytes());
        bytes
    }

    fn length(self) -> u32 {
        match self {
            Self::Ipv4Address => 4,
            Self::Ipv6Address | Self::InterfaceName => 16,
        }
    }
}

impl Set<'_> {
    /// `id` tells the sets of one transaction apart.
    pub(super) fn attributes(&self, table: Table, id: u32) -> Vec<SetAttribute> {
        let mut attributes = vec![
            SetAttribute::Table(table.name.to_owned()),
            SetAttribute::Name(self.name.to_owned()),
            SetAttribute::KeyType(self.key.number()),
            SetAttribute::KeyLen(self.key.length()),
            SetAttribute::Id(id),
            SetAttribute::UserData(self.key.byte_order()),
        ];
        if self.verdicts {
            attributes.push(SetAttribute::Flags(SetFlags::Map));
            attributes.push(SetAttribute::DataType(VERDICT));
        }
        attributes
    }
}

impl From<IpAddr> for Key {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self(v4.octets().to_vec()),
            IpAddr::V6(v6) => Self(v6.octets().to_vec()),
        }
    }
}

impl Key {
    /// The address that the key is, where it has the length of one.
    pub fn address(&self) -> Option<IpAddr> {
        let v4 = <[u8; 4]>::try_from(self.0.as_slice()).map(IpAddr::from);
        v4.or_else(|_| <[u8; 16]>::try_from(self.0.as_slice()).map(IpAddr::from))
            .ok()
    }

    /// An interface's name, filled up with zeros to `IFNAMSIZ`.
    pub fn interface(name: &str) -> Self {
        let mut bytes = name.as_bytes().to_vec();
        bytes.resize(16, 0);
        Self(bytes)
    }
}
