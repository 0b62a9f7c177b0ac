//! What can go wrong between us and the kernel, with the kernel's own words where it gives any.

use std::io;
use std::path::PathBuf;

use netlink_packet_core::DecodeError;
use nix::errno::Errno;

/// Result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the kernel did not do, or could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused one request.
    #[error("cannot {verb} {object}: {}{}", .errno.desc(), .text.as_deref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Kernel {
        /// What was to be done: `create`, `delete`, `set`, `read` …
        verb: &'static str,
        /// To what: `link veth12`, `route 10.0.0.0/24` …
        object: String,
        /// The error number.
        errno: Errno,
        /// The kernel's explanation, if it gave one (`NLMSGERR_ATTR_MSG`, extended ACK).
        text: Option<String>,
    },
    /// A socket or a file failed us.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The path does not lead to a network namespace: it is missing, or is a file of another kind.
    #[error("{} is not a network namespace: {why}", .path.display())]
    NotANetns {
        /// The path.
        path: PathBuf,
        /// What it is instead.
        why: &'static str,
    },
    /// The kernel sent something that this program does not understand.
    #[error("cannot understand what the kernel sent about {about}: {source}")]
    Decode {
        /// What it was about.
        about: &'static str,
        /// What was wrong with it.
        source: DecodeError,
    },
    /// The ruleset has changed since it was read for this transaction.
    #[error("the nftables ruleset was changed by another program at the same moment")]
    Stale,
    /// A dump kept being interrupted by changes (`NLM_F_DUMP_INTR`).
    #[error("cannot read {0}: they change faster than they can be read")]
    Unstable(&'static str),
}

impl Error {
    /// The error number of the kernel's refusal.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Kernel { errno, .. } => Some(*errno),
            Self::Io { source, .. } => source.raw_os_error().map(Errno::from_raw),
            _ => None,
        }
    }

    /// Whether what was asked about is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self.errno(),
            Some(Errno::ENODEV | Errno::ENOENT | Errno::ESRCH | Errno::EADDRNOTAVAIL)
        )
    }

    /// Whether what was to be made is there already.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(Errno::EEXIST)
    }

    /// Whether the kernel lacks the feature.
    pub fn is_unsupported(&self) -> bool {
        matches!(
            self.errno(),
            Some(Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT)
        )
    }

    /// Whether IPv6 is off in the kernel, or a link's MTU too small for it.
    pub fn is_without_ipv6(&self) -> bool {
        self.errno() == Some(Errno::EAFNOSUPPORT)
    }

    /// Whether the kernel lacks the kind of link that was to be made (net/core/rtnetlink.c, `__rtnl_newlink`).
    pub fn is_unknown_kind(&self) -> bool {
        matches!(self, Self::Kernel { errno: Errno::EOPNOTSUPP, text, .. }
            if text.as_deref().is_none_or(|text| text == "Unknown device type"))
    }

    /// Whether the same may work in a moment.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Unstable(_) | Self::Stale)
            || matches!(self.errno(), Some(Errno::EBUSY | Errno::ENOBUFS))
    }

    /// Whether a path led to no network namespace.
    pub fn is_not_a_netns(&self) -> bool {
        matches!(self, Self::NotANetns { .. })
    }

    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    pub(crate) fn decode(about: &'static str) -> impl FnOnce(DecodeError) -> Self {
        move |source| Self::Decode { about, source }
    }
}
