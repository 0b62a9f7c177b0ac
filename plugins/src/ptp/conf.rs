//! The ptp plugin's configuration: raw keys in, one validated [`PtpConf`] out.

use cni::{Call, Dns, Result};
use serde::Deserialize;

use crate::keys::{self, RawDns, RawIpam, invalid};

/// A configuration that has been checked: nothing in here is checked again.
#[derive(Debug)]
pub struct PtpConf {
    /// Masquerade what leaves the pod's own subnet.
    pub ip_masq: bool,
    /// MTU in bytes; `None` asks for that of the default route's device.
    pub mtu: Option<u32>,
    /// The IPAM plugin's type.
    pub ipam: String,
    /// The configuration's own DNS, which replaces IPAM's when any field is given.
    pub dns: Option<Dns>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    ip_masq: bool,
    ip_masq_backend: Option<String>,
    mtu: i64,
    ipam: RawIpam,
    dns: Option<RawDns>,
}

impl PtpConf {
    /// Reads and checks the configuration of `call`.
    ///
    /// # Errors
    /// Code 7 for a value that cannot be, code 2 for a masquerade backend that nobody knows.
    pub fn of(call: &Call) -> Result<Self> {
        let raw: Raw = call.conf.parse()?;
        keys::masquerade_backend(raw.ip_masq_backend.as_deref())?;
        Ok(Self {
            ip_masq: raw.ip_masq,
            mtu: keys::mtu(raw.mtu, "that of the default route's device")?,
            ipam: raw.ipam.plugin().ok_or_else(|| {
                invalid("\"ipam\" is missing: ptp routes to the pod's address, so give it a plugin such as {\"type\": \"host-local\", \"subnet\": \"10.1.2.0/24\"}")
            })?,
            dns: raw.dns.and_then(RawDns::replacement),
        })
    }
}
