//! What all links that are made here and born elsewhere have in common.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::link::{InfoData, InfoKind, LinkAttribute, LinkMessage};

use super::{RTM_NEWLINK, info};
use crate::mac::Mac;
use crate::netns::Netns;
use crate::request::Request;

/// A link to be made, down.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewLink<'a> {
    /// Its name, which must be free where the handle is as well: the kernel looks there (before 6.15).
    pub name: &'a str,
    /// The namespace that it is born in; the handle's own where `None`.
    pub netns: Option<&'a Netns>,
    /// Index of the link below it, in the handle's namespace.
    pub below: Option<u32>,
    /// Its MTU in bytes; the kernel's choice where `None`, mostly that of the link below.
    pub mtu: Option<u32>,
    /// Its MAC; the kernel's choice where `None`.
    pub mac: Option<Mac>,
}

impl NewLink<'_> {
    /// The request that makes it, as one of `kind`, called `noun` should the kernel refuse.
    pub(super) fn request(&self, noun: &str, kind: InfoKind, data: Option<InfoData>) -> Request {
        let mut message = LinkMessage::default();
        let attributes = &mut message.attributes;
        attributes.push(LinkAttribute::IfName(self.name.to_owned()));
        attributes.extend(self.below.map(LinkAttribute::Link));
        attributes.extend(
            self.netns
                .map(|netns| LinkAttribute::NetNsFd(netns.as_fd().as_raw_fd())),
        );
        attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        attributes.extend(
            self.mac
                .map(|mac| LinkAttribute::Address(mac.bytes().to_vec())),
        );
        attributes.push(info(kind, data));
        Request::new(
            RTM_NEWLINK,
            NLM_F_CREATE | NLM_F_EXCL,
            &message,
            "create",
            format!("{noun} {}", self.name),
        )
    }
}

/// What `ip` 6.1 sends for the same commands, as `strace` shows it: for kinds that the kernel at hand may not have.
#[cfg(test)]
mod tests {
    use crate::Request;
    use crate::link::{Dummy, Ipvlan, IpvlanMode, Macvlan, MacvlanMode, NewLink, Tagged, Vrf};

    const IFLA_LINK: u16 = 5;
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_INFO_KIND: u16 = 1;
    const IFLA_INFO_DATA: u16 = 2;

    /// Type and value of each attribute.
    fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
        let mut found = Vec::new();
        while let [a, b, c, d, ..] = bytes {
            let length = usize::from(u16::from_ne_bytes([*a, *b]));
            found.push((
                u16::from_ne_bytes([*c, *d]) & 0x3fff,
                bytes.get(4..length).unwrap(),
            ));
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        found
    }

    fn value(attributes: &[(u16, &[u8])], kind: u16) -> Option<Vec<u8>> {
        let found = attributes.iter().find(|(found, _)| *found == kind);
        found.map(|(_, value)| value.to_vec())
    }

    /// Kind, settings and link below of a request.
    fn read(request: &Request) -> (String, Vec<u8>, Option<Vec<u8>>) {
        assert_eq!(request.kind, 16, "RTM_NEWLINK");
        assert_eq!(request.flags, 0x605, "REQUEST, ACK, EXCL, CREATE");
        let all = attributes(&request.payload[16..]);
        let info = value(&all, IFLA_LINKINFO).unwrap();
        let info = attributes(&info);
        let kind = value(&info, IFLA_INFO_KIND).unwrap();
        let kind = String::from_utf8(kind).unwrap();
        let data = value(&info, IFLA_INFO_DATA).unwrap_or_default();
        (
            kind.trim_end_matches('\0').to_owned(),
            data,
            value(&all, IFLA_LINK),
        )
    }

    #[test]
    fn each_kind_is_asked_for_as_ip_asks() {
        let on = |below| NewLink {
            name: "x",
            below: Some(below),
            ..NewLink::default()
        };
        let alone = NewLink {
            name: "x",
            ..NewLink::default()
        };
        let below = Some(vec![3, 0, 0, 0]);
        let macvlan = |mode, broadcast_queue| {
            Macvlan {
                link: on(3),
                mode,
                broadcast_queue,
            }
            .request()
        };
        for (request, kind, data, below) in [
            (
                macvlan(MacvlanMode::Private, None),
                "macvlan",
                "0800010001000000",
                &below,
            ),
            (
                macvlan(MacvlanMode::Passthru, Some(2000)),
                "macvlan",
                "0800010008000000 08000700d0070000",
                &below,
            ),
            (
                Ipvlan {
                    link: on(3),
                    mode: IpvlanMode::L3s,
                }
                .request(),
                "ipvlan",
                "0600010002000000",
                &below,
            ),
            (
                Tagged {
                    link: on(3),
                    id: 100,
                }
                .request(),
                "vlan",
                "0600010064000000",
                &below,
            ),
            (
                Vrf {
                    link: alone,
                    table: 1000,
                }
                .request(),
                "vrf",
                "08000100e8030000",
                &None,
            ),
            (Dummy { link: alone }.request(), "dummy", "", &None),
        ] {
            let (found, bytes, on) = read(&request);
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!((found.as_str(), hex), (kind, data.replace(' ', "")));
            assert_eq!(&on, below, "{kind}");
        }
    }
}
