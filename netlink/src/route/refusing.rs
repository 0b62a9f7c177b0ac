//! Routes that lead nowhere on purpose.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::route::RouteMessage;

use super::MAIN_TABLE;
use super::read::{ABOUT, HEADER, RTA_DST, RTA_PRIORITY, RTA_TABLE, RTM_GETROUTE, any};
use crate::attributes::{each, ip, number, split};
use crate::error::Result;
use crate::request::emit;
use crate::socket::Socket;

/// What becomes of a packet (`RTN_…`, include/uapi/linux/rtnetlink.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is dropped without a word.
    Blackhole,
    /// It is dropped, and its sender told that the host is unreachable.
    Unreachable,
    /// It is dropped, and its sender told that this is forbidden.
    Prohibit,
}

/// A route by which packets are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusingRoute {
    /// Destination.
    pub dst: IpNetwork,
    /// What becomes of packets to it.
    pub refusal: Refusal,
    /// Routing table.
    pub table: u32,
    /// Who made it (`RTPROT_…`).
    pub protocol: u8,
    /// Metric: of two routes to one destination the lower one counts.
    pub priority: u32,
}

impl Refusal {
    fn of(kind: u8) -> Option<Self> {
        match kind {
            6 => Some(Self::Blackhole),
            7 => Some(Self::Unreachable),
            8 => Some(Self::Prohibit),
            _ => None,
        }
    }

    /// As `ip route` calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blackhole => "blackhole",
            Self::Unreachable => "unreachable",
            Self::Prohibit => "prohibit",
        }
    }
}

pub(crate) fn list(socket: &mut Socket) -> Result<Vec<RefusingRoute>> {
    let message = emit(&RouteMessage::default());
    socket.dump(RTM_GETROUTE, &message, "routes", |_, payload| {
        parse(payload)
    })
}

pub(crate) fn parse(payload: &[u8]) -> Result<Option<RefusingRoute>> {
    let (header, attributes) = split::<HEADER>(ABOUT, payload)?;
    let [family, length, _, _, table, protocol, _, kind, ..] = *header;
    let Some((refusal, any)) = Refusal::of(kind).zip(any(family)) else {
        return Ok(None);
    };
    let (mut dst, mut table, mut priority): (IpAddr, u32, u32) = (any, table.into(), 0);
    each(ABOUT, attributes, &mut |kind, value| {
        match kind {
            RTA_DST => dst = ip(value).unwrap_or(dst),
            RTA_TABLE => table = number(value),
            RTA_PRIORITY => priority = number(value),
            _ => {}
        }
        Ok(())
    })?;
    let table = if table == 0 { MAIN_TABLE } else { table };
    let network = IpNetwork::new(dst, length).ok();
    Ok(network.map(|dst| RefusingRoute {
        dst,
        refusal,
        table,
        protocol,
        priority,
    }))
}
