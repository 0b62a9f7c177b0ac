//! Keys that several plugins have and read the same way: MTU, MAC, DNS, IPAM plugin, masquerade backend.

use cni::{Call, Code, Dns, Error, Result};
use netlink::Mac;
use serde::Deserialize;

/// Largest MTU an Ethernet-like device takes (`ETH_MAX_MTU`, include/uapi/linux/if_ether.h).
const MAX_MTU: i64 = 65_535;
/// Smallest MTU that IPv4 may be forced over (RFC 791; `ETH_MIN_MTU` in the kernel).
const MIN_MTU: i64 = 68;

/// `ipam`, as far as a plugin that delegates to it has to know.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct RawIpam {
    r#type: String,
}

/// `dns` with each field's presence kept: an empty list still replaces what IPAM said.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct RawDns {
    nameservers: Option<Vec<String>>,
    domain: Option<String>,
    search: Option<Vec<String>>,
    options: Option<Vec<String>>,
}

/// `runtimeConfig` or `args.cni`, as far as they ask for a MAC.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct RawMac {
    /// The MAC, not yet read.
    pub mac: Option<String>,
}

impl RawIpam {
    /// The IPAM plugin's type; `None` for a layer 2 network.
    pub fn plugin(self) -> Option<String> {
        Some(self.r#type).filter(|name| !name.is_empty())
    }
}

impl RawDns {
    /// What takes the place of IPAM's DNS: everything, as soon as one field is given.
    pub fn replacement(self) -> Option<Dns> {
        let given = self.nameservers.is_some()
            || self.domain.is_some()
            || self.search.is_some()
            || self.options.is_some();
        given.then(|| Dns {
            nameservers: self.nameservers.unwrap_or_default(),
            domain: self.domain,
            search: self.search.unwrap_or_default(),
            options: self.options.unwrap_or_default(),
        })
    }
}

/// `mtu` in bytes; `None` for 0, which stands for `automatic`.
///
/// # Errors
/// Code 7 for what no device takes.
pub fn mtu(value: i64, automatic: &str) -> Result<Option<u32>> {
    match value {
        0 => Ok(None),
        MIN_MTU..=MAX_MTU => Ok(u32::try_from(value).ok()),
        _ => Err(invalid(format!(
            "\"mtu\": {value} is not an MTU: write {MIN_MTU} to {MAX_MTU}, or 0 for {automatic}"
        ))),
    }
}

/// The MAC of the first source that gives one: its key and what stands there.
///
/// # Errors
/// Code 7, or 4 where the key is one of `CNI_ARGS`, for what no interface can have.
pub fn mac(sources: [(&str, Option<String>); 3]) -> Result<Option<Mac>> {
    for (key, text) in sources {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            continue;
        };
        let code = if key.starts_with("CNI_ARGS") {
            Code::InvalidEnvironment
        } else {
            Code::InvalidConfig
        };
        let mac: Mac = text.parse().map_err(|_| {
            Error::new(
                code,
                format!("{key}: {text:?} is not a MAC address such as \"0a:58:0a:16:00:05\""),
            )
        })?;
        if mac.is_multicast() {
            return Err(Error::new(
                code,
                format!(
                    "{key}: {text:?} is a group address, which no interface can own: clear the lowest bit of its first byte"
                ),
            ));
        }
        return Ok(Some(mac));
    }
    Ok(None)
}

/// `MAC` of `CNI_ARGS`, beside which `IP` and `GATEWAY` may stand for the IPAM plugin.
///
/// # Errors
/// Code 4 for arguments that nobody knows.
pub fn mac_of_args(call: &Call) -> Result<Option<String>> {
    Ok(call.args.parse(&["IP", "GATEWAY", "MAC"])?.remove("MAC"))
}

/// Checks `ipMasqBackend`, of which there is only one here.
///
/// # Errors
/// Code 2 for a backend that nobody knows.
pub fn masquerade_backend(backend: Option<&str>) -> Result<()> {
    match backend {
        None | Some("" | "nftables") => Ok(()),
        Some("iptables") => {
            eprintln!(
                "heddle: \"ipMasqBackend\": \"iptables\" means the same here as \"nftables\": the rules go into Heddle's own nftables table"
            );
            Ok(())
        }
        Some(other) => Err(Error::new(
            Code::UnsupportedField,
            format!(
                "\"ipMasqBackend\": {other:?} is not a backend: write \"nftables\", or leave the key out"
            ),
        )),
    }
}

/// Code 7 with this sentence.
pub fn invalid(msg: impl Into<String>) -> Error {
    Error::new(Code::InvalidConfig, msg)
}
