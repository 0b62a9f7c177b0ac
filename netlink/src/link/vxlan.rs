//! VXLAN devices (RFC 7348) whose peers are named in the FDB and never learnt.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkMessage,
};

use super::{RTM_NEWLINK, info};
use crate::mac::Mac;
use crate::request::Request;

/// A VXLAN device to be made. It is tied to no device below, so that it outlives those.
#[derive(Debug)]
pub struct Vxlan<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is, down to what cannot be changed later.
    pub info: VxlanInfo,
    /// Its MAC.
    pub mac: Mac,
    /// Its MTU in bytes.
    pub mtu: u32,
}

/// What is special about a VXLAN device; none of it can be changed once it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VxlanInfo {
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// Source address of the outer packets; its family is that of all peers.
    pub local: Option<IpAddr>,
    /// UDP port, of both ends.
    pub port: u16,
    /// Whether it learns peers from what comes in.
    pub learning: bool,
}

impl Vxlan<'_> {
    /// Equals `ip link add NAME up address MAC mtu M type vxlan id VNI local IP dstport PORT [no]learning`.
    pub fn request(&self) -> Request {
        let mut settings = vec![
            InfoVxlan::Id(self.info.vni),
            InfoVxlan::Port(self.info.port),
            InfoVxlan::Learning(self.info.learning),
        ];
        settings.extend(self.info.local.map(|local| match local {
            IpAddr::V4(v4) => InfoVxlan::Local(v4),
            IpAddr::V6(v6) => InfoVxlan::Local6(v6),
        }));
        let mut message = LinkMessage::default();
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes = vec![
            LinkAttribute::IfName(self.name.to_owned()),
            LinkAttribute::Address(self.mac.bytes().to_vec()),
            LinkAttribute::Mtu(self.mtu),
            info(InfoKind::Vxlan, Some(InfoData::Vxlan(settings))),
        ];
        Request::new(
            RTM_NEWLINK,
            NLM_F_CREATE | NLM_F_EXCL,
            &message,
            "create",
            format!("VXLAN device {}", self.name),
        )
    }
}

impl VxlanInfo {
    pub(super) fn read(settings: &[InfoVxlan]) -> Self {
        let mut read = Self {
            vni: 0,
            local: None,
            port: 0,
            learning: false,
        };
        for setting in settings {
            match setting {
                InfoVxlan::Id(vni) => read.vni = *vni,
                InfoVxlan::Local(v4) => read.local = Some((*v4).into()),
                InfoVxlan::Local6(v6) => read.local = Some((*v6).into()),
                InfoVxlan::Port(port) => read.port = *port,
                InfoVxlan::Learning(learning) => read.learning = *learning,
                _ => {}
            }
        }
        read
    }
}
