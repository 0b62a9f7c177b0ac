//! macvlan links: a MAC address of one's own on another link's wire.

use netlink_packet_route::link::{InfoData, InfoKind, InfoMacVlan, MacVlanMode};

use super::NewLink;
use crate::request::Request;

/// Whom the macvlans of one link can talk to (`MACVLAN_MODE_…`, include/uapi/linux/if_link.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacvlanMode {
    /// Nobody on the same link.
    Private,
    /// Each other by way of the switch outside (IEEE 802.1Qbg).
    Vepa,
    /// Each other directly.
    Bridge,
    /// There is only one, and the link below is its alone.
    Passthru,
}

/// A macvlan to be made.
#[derive(Clone, Copy, Debug)]
pub struct Macvlan<'a> {
    /// The link itself.
    pub link: NewLink<'a>,
    /// Whom it can talk to.
    pub mode: MacvlanMode,
    /// How many broadcasts may wait for it (5.11); the kernel's choice, 1000, where `None`.
    pub broadcast_queue: Option<u32>,
}

impl Macvlan<'_> {
    /// Equals `ip link add link BELOW name NAME netns NS address MAC mtu BYTES type macvlan mode MODE bcqueuelen N`.
    pub fn request(&self) -> Request {
        let mut data = vec![InfoMacVlan::Mode(self.mode.into())];
        data.extend(self.broadcast_queue.map(InfoMacVlan::BcQueueLen));
        self.link
            .request("macvlan", InfoKind::MacVlan, Some(InfoData::MacVlan(data)))
    }
}

impl MacvlanMode {
    pub(super) fn read(settings: &[InfoMacVlan]) -> Option<Self> {
        settings.iter().find_map(|setting| match setting {
            InfoMacVlan::Mode(MacVlanMode::Private) => Some(Self::Private),
            InfoMacVlan::Mode(MacVlanMode::Vepa) => Some(Self::Vepa),
            InfoMacVlan::Mode(MacVlanMode::Bridge) => Some(Self::Bridge),
            InfoMacVlan::Mode(MacVlanMode::Passthrough) => Some(Self::Passthru),
            _ => None,
        })
    }
}

impl From<MacvlanMode> for MacVlanMode {
    fn from(mode: MacvlanMode) -> Self {
        match mode {
            MacvlanMode::Private => Self::Private,
            MacvlanMode::Vepa => Self::Vepa,
            MacvlanMode::Bridge => Self::Bridge,
            MacvlanMode::Passthru => Self::Passthrough,
        }
    }
}
