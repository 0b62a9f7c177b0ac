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
    /// `inet_proto . inet_service`.
    Service,
    /// `ipv4_addr . inet_proto . inet_service`.
    Ipv4Service,
    /// `ipv6_addr . inet_proto . inet_service`.
    Ipv6Service,
    /// `inet_proto . inet_service . ifname`.
    ServiceByLink,
    /// `ipv4_addr . inet_proto . inet_service . ifname`.
    Ipv4ServiceByLink,
    /// `ipv6_addr . inet_proto . inet_service . ifname`.
    Ipv6ServiceByLink,
    /// `ipv4_addr . inet_service`.
    Ipv4Target,
    /// `ipv6_addr . inet_service`.
    Ipv6Target,
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

/// A map to be made, of data and not of verdicts.
#[derive(Debug)]
pub struct DataMap<'a> {
    /// Its name.
    pub name: &'a str,
    /// What its keys are.
    pub key: Type,
    /// What its values are.
    pub value: Type,
}

/// The key of one element, as the kernel compares it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub(super) Vec<u8>);

impl Type {
    /// A concatenation's number is those of its parts, six bits each.
    fn number(self) -> u32 {
        /// `inet_proto . inet_service`.
        const SERVICE: u32 = (12 << 6) | 13;
        const INTERFACE: u32 = 41;
        match self {
            Self::Ipv4Address => 7,
            Self::Ipv6Address => 8,
            Self::InterfaceName => INTERFACE,
            Self::Service => SERVICE,
            Self::Ipv4Service => (7 << 12) | SERVICE,
            Self::Ipv6Service => (8 << 12) | SERVICE,
            Self::ServiceByLink => (SERVICE << 6) | INTERFACE,
            Self::Ipv4ServiceByLink => (7 << 18) | (SERVICE << 6) | INTERFACE,
            Self::Ipv6ServiceByLink => (8 << 18) | (SERVICE << 6) | INTERFACE,
            Self::Ipv4Target => (7 << 6) | 13,
            Self::Ipv6Target => (8 << 6) | 13,
        }
    }

    /// User data that lets the `nft` program show the keys: type 0 (`NFTNL_UDATA_SET_KEYBYTEORDER` of
    /// libnftnl), four bytes, 1 for the host's order and 2 for the network's.
    fn byte_order(self) -> Vec<u8> {
        let order: u32 = match self {
            Self::InterfaceName => 1,
            _ => 2,
        };
        let mut bytes = vec![0, 4];
        bytes.extend(order.to_ne_bytes());
        bytes
    }

    fn length(self) -> u32 {
        match self {
            Self::Ipv4Address => 4,
            Self::Ipv6Address | Self::InterfaceName => 16,
            Self::Service | Self::Ipv4Target => 8,
            Self::Ipv4Service => 12,
            Self::Ipv6Target => 20,
            Self::Ipv6Service | Self::ServiceByLink => 24,
            Self::Ipv4ServiceByLink => 28,
            Self::Ipv6ServiceByLink => 40,
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

impl DataMap<'_> {
    pub(super) fn attributes(&self, table: Table, id: u32) -> Vec<SetAttribute> {
        let keys = Set {
            name: self.name,
            key: self.key,
            verdicts: false,
        };
        let mut attributes = keys.attributes(table, id);
        attributes.push(SetAttribute::Flags(SetFlags::Map));
        attributes.push(SetAttribute::DataType(self.value.number()));
        attributes.push(SetAttribute::DataLen(self.value.length()));
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

    /// A protocol (`IPPROTO_…`) and a port.
    pub fn service(protocol: u8, port: u16) -> Self {
        let [high, low] = port.to_be_bytes();
        Self(vec![protocol, 0, 0, 0, high, low, 0, 0])
    }

    /// An address, a protocol and a port.
    pub fn service_at(address: IpAddr, protocol: u8, port: u16) -> Self {
        let mut key = Self::from(address);
        key.0.extend(Self::service(protocol, port).0);
        key
    }

    /// The same with the name of the link that a packet comes in by.
    #[must_use]
    pub fn by_link(&self, name: &str) -> Self {
        let mut key = self.clone();
        key.0.extend(Self::interface(name).0);
        key
    }

    /// The key that [`Key::by_link`] was made of, and the link's name.
    pub fn split_link(&self) -> Option<(Self, String)> {
        let (key, name) = self.0.split_at_checked(self.0.len().checked_sub(16)?)?;
        let name = Self(name.to_vec()).as_interface()?;
        Some((Self(key.to_vec()), name))
    }

    /// The address, if it is keyed by one, the protocol and the port of a service.
    pub fn as_service(&self) -> Option<(Option<IpAddr>, u8, u16)> {
        let (address, service) = self.0.split_at_checked(self.0.len().checked_sub(8)?)?;
        let address = match address {
            [] => None,
            bytes => Some(Self(bytes.to_vec()).address()?),
        };
        let [protocol, _, _, _, high, low, _, _] = *service else {
            return None;
        };
        Some((address, protocol, u16::from_be_bytes([high, low])))
    }

    /// The interface's name that the key is, where it has the length of one.
    pub fn as_interface(&self) -> Option<String> {
        let bytes = <&[u8; 16]>::try_from(self.0.as_slice()).ok()?;
        let name = std::str::from_utf8(bytes).ok()?;
        Some(name.trim_end_matches('\0').to_owned())
    }

    /// An interface's name, filled up with zeros to `IFNAMSIZ`.
    pub fn interface(name: &str) -> Self {
        let mut bytes = name.as_bytes().to_vec();
        bytes.resize(16, 0);
        Self(bytes)
    }
}
