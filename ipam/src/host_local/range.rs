//! Ranges of addresses, and sets of ranges: a pod gets one address of each set.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cni::parse_cidr;
use ipnetwork::IpNetwork;

use crate::requests::RawRange;

/// Addresses `start` to `end` of one subnet, without the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The subnet.
    pub subnet: IpNetwork,
    /// First address to give out.
    pub start: IpAddr,
    /// Last address to give out.
    pub end: IpAddr,
    /// Never given out.
    pub gateway: IpAddr,
}

/// Ranges of one family that do not overlap; a pod gets one address out of all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeSet(Vec<Range>);

impl Range {
    /// Fills in what `raw` leaves out and checks what it says.
    pub fn new(raw: &RawRange) -> Result<Self, String> {
        let subnet = parse_cidr(&raw.subnet).map_err(|_| {
            format!(
                "\"subnet\": {:?} is not a subnet: write for example \"10.1.0.0/16\"",
                raw.subnet
            )
        })?;
        let host_bits = number_of_bits(subnet) - subnet.prefix();
        if host_bits < 2 {
            return Err(format!(
                "Network {subnet} too small to allocate from: give at least a /{}",
                number_of_bits(subnet) - 2
            ));
        }
        if subnet.ip() != subnet.network() {
            return Err(format!(
                "Network has host bits set. For a subnet mask of length {} the network address is {}, but \"subnet\" is {:?}",
                subnet.prefix(),
                subnet.network(),
                raw.subnet
            ));
        }
        let first = number(subnet.network());
        let last = first | mask(host_bits);
        // IPv6 has no broadcast address to leave out.
        let default_end = if subnet.is_ipv4() { last - 1 } else { last };
        let within = |key: &str, text: &str| -> Result<Option<IpAddr>, String> {
            let Some(address) = optional(key, text)? else {
                return Ok(None);
            };
            if !subnet.contains(address) {
                return Err(format!(
                    "\"{key}\": {address} not in network {subnet}: choose one from {} to {}",
                    address_at(subnet, first),
                    address_at(subnet, last)
                ));
            }
            Ok(Some(address))
        };
        let range = Self {
            subnet,
            start: within("rangeStart", &raw.range_start)?
                .unwrap_or_else(|| address_at(subnet, first + 1)),
            end: within("rangeEnd", &raw.range_end)?
                .unwrap_or_else(|| address_at(subnet, default_end)),
            gateway: optional("gateway", &raw.gateway)?
                .unwrap_or_else(|| address_at(subnet, first + 1)),
        };
        if number(range.start) > number(range.end) {
            return Err(format!(
                "\"rangeStart\": {} comes after \"rangeEnd\": {}: swap them",
                range.start, range.end
            ));
        }
        Ok(range)
    }

    /// Whether `address` is one to give out, the gateway included.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.start.is_ipv4()
            && (number(self.start)..=number(self.end)).contains(&number(address))
    }

    /// `address` with the prefix length of the subnet.
    pub fn with_prefix(&self, address: IpAddr) -> IpNetwork {
        // The prefix is valid for the subnet, so it is for its addresses.
        IpNetwork::new(address, self.subnet.prefix()).unwrap_or(self.subnet)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.start) || self.contains(other.end) || other.contains(self.start)
    }

    /// How many addresses there are to give out.
    fn size(&self) -> u128 {
        let all = (number(self.end) - number(self.start)).saturating_add(1);
        all - u128::from(self.contains(self.gateway))
    }
}

impl RangeSet {
    /// Checks `ranges` against each other.
    pub fn new(ranges: Vec<Range>) -> Result<Self, String> {
        let Some(first) = ranges.first() else {
            return Err("a range set is empty: give it at least one range".to_owned());
        };
        if let Some(other) = ranges
            .iter()
            .find(|range| range.start.is_ipv4() != first.start.is_ipv4())
        {
            return Err(format!(
                "mixed address families in one range set: {} and {}: put them into two sets",
                first.subnet, other.subnet
            ));
        }
        for (index, range) in ranges.iter().enumerate() {
            if let Some(other) = ranges[..index].iter().find(|other| other.overlaps(range)) {
                return Err(overlap(other, range));
            }
        }
        Ok(Self(ranges))
    }

    /// What is wrong with two sets beside each other, if anything.
    pub fn conflict(&self, other: &Self) -> Option<String> {
        self.0.iter().find_map(|range| {
            other
                .0
                .iter()
                .find(|theirs| theirs.overlaps(range))
                .map(|theirs| overlap(range, theirs))
        })
    }

    /// Whether the addresses are IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.0.first().is_some_and(|range| range.start.is_ipv4())
    }

    /// The range that `address` lies in.
    pub fn range_of(&self, address: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(address))
    }

    /// Whether `address` lies in one of the ranges.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.range_of(address).is_some()
    }

    /// How many addresses there are to give out.
    pub fn size(&self) -> u128 {
        self.0.iter().map(Range::size).fold(0, u128::saturating_add)
    }

    /// All addresses to give out, each once, beginning behind `last` and ending with it; from the start
    /// when `last` is none of them.
    pub fn after(&self, last: Option<IpAddr>) -> impl Iterator<Item = (IpAddr, &Range)> {
        let at = last.and_then(|last| {
            self.0
                .iter()
                .position(|range| range.contains(last))
                .map(|index| (index, number(last)))
        });
        let (index, last) = at.unwrap_or((0, number(self.0[0].start).wrapping_sub(1)));
        let current = &self.0[index];
        let rest = last.wrapping_add(1)..=number(current.end);
        let others = self.0[index + 1..].iter().chain(&self.0[..index]);
        let head = at.map(|_| number(current.start)..=last);
        std::iter::once((current, rest))
            .chain(others.map(|range| (range, number(range.start)..=number(range.end))))
            .chain(head.map(|head| (current, head)))
            .flat_map(|(range, numbers)| {
                numbers.map(move |number| (address_at(range.subnet, number), range))
            })
            .filter(|(address, range)| *address != range.gateway)
    }
}

impl fmt::Display for RangeSet {
    /// As the reference names a set in its messages: `10.1.0.1-10.1.0.254,10.2.0.1-10.2.0.254`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(f, "{separator}{}-{}", range.start, range.end)?;
        }
        Ok(())
    }
}

fn overlap(a: &Range, b: &Range) -> String {
    format!(
        "ranges {}-{} and {}-{} overlap: an address must belong to one range only",
        a.start, a.end, b.start, b.end
    )
}

fn optional(key: &str, text: &str) -> Result<Option<IpAddr>, String> {
    match text {
        "" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|_| format!("\"{key}\": {text:?} is not an IP address")),
    }
}

fn number_of_bits(subnet: IpNetwork) -> u8 {
    if subnet.is_ipv4() { 32 } else { 128 }
}

fn mask(bits: u8) -> u128 {
    u128::MAX.checked_shr(128 - u32::from(bits)).unwrap_or(0)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

/// The address with that number, of the family of `subnet`.
fn address_at(subnet: IpNetwork, number: u128) -> IpAddr {
    match subnet {
        // Numbers of IPv4 addresses stay below 2^32.
        IpNetwork::V4(_) => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        IpNetwork::V6(_) => Ipv6Addr::from(number).into(),
    }
}
