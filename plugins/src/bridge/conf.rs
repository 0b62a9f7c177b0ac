//! The bridge plugin's configuration: raw keys in, one validated [`BridgeConf`] out.

use std::net::IpAddr;
use std::path::PathBuf;

use cni::{Call, Code, Dns, Error, Result};
use netlink::Mac;
use serde::Deserialize;

/// The name of the bridge when the configuration gives none, as the reference plugin has it.
const DEFAULT_BRIDGE: &str = "cni0";

/// What `CNI_ARGS` may carry for a chain that begins with a bridge: `IP` and `GATEWAY` are for
/// its IPAM plugin, `MAC` is for the container's interface.
const KNOWN_ARGS: &[&str] = &["IP", "GATEWAY", "MAC"];

/// Largest MTU an Ethernet-like device takes (`ETH_MAX_MTU`, include/uapi/linux/if_ether.h).
const MAX_MTU: i64 = 65_535;
/// Smallest MTU that IPv4 may be forced over (RFC 791; `ETH_MIN_MTU` in the kernel).
const MIN_MTU: i64 = 68;

/// A configuration that has been checked: nothing in here is checked again.
#[derive(Debug)]
pub struct BridgeConf {
    /// Name of the bridge device.
    pub bridge: String,
    /// Put the gateway addresses on the bridge and forward for their families.
    pub is_gateway: bool,
    /// Give the container a default route by the gateway, once per family.
    pub is_default_gateway: bool,
    /// Replace a conflicting address on the bridge instead of refusing.
    pub force_address: bool,
    /// Masquerade what leaves the pod's own subnet.
    pub ip_masq: bool,
    /// MTU in bytes; `None` asks for that of the default route's device.
    pub mtu: Option<u32>,
    /// Let the port send a frame back where it came from.
    pub hairpin: bool,
    /// Put the bridge device into promiscuous mode.
    pub promisc: bool,
    /// Keep the port from talking to other isolated ports.
    pub isolated: bool,
    /// Drop frames that do not carry the container's own source MAC.
    pub mac_spoof_check: bool,
    /// Let IPv6 probe for duplicate addresses.
    pub duplicate_address_detection: bool,
    /// Leave the container's interface down.
    pub disable_container_interface: bool,
    /// Which VLANs the port carries.
    pub vlans: Vlans,
    /// The IPAM plugin's type; `None` for a layer 2 network.
    pub ipam: Option<String>,
    /// The configuration's own DNS, which replaces IPAM's when any field is given.
    pub dns: Option<Dns>,
    /// MAC asked for by the runtime.
    pub mac: Option<Mac>,
    /// Where the node's daemon says whether its network works; `None` on a node without one.
    pub status_file: Option<PathBuf>,
}

/// The VLANs of one bridge port.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Vlans {
    /// Untagged VLAN and PVID of the port, 1–4094; `None` leaves the bridge's default.
    pub access: Option<u16>,
    /// Tagged VLANs, inclusive ranges of 1–4094.
    pub trunk: Vec<(u16, u16)>,
    /// Keep the VLANs the port was born with.
    pub preserve_default: bool,
}

impl Vlans {
    /// Whether the configuration asks for any VLAN, and so for a bridge that filters them.
    pub fn any(&self) -> bool {
        self.access.is_some() || !self.trunk.is_empty()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    bridge: Option<String>,
    is_gateway: bool,
    is_default_gateway: bool,
    force_address: bool,
    ip_masq: bool,
    ip_masq_backend: Option<String>,
    mtu: i64,
    hairpin_mode: bool,
    promisc_mode: bool,
    vlan: i64,
    vlan_trunk: Vec<RawTrunk>,
    preserve_default_vlan: bool,
    #[serde(rename = "macspoofchk")]
    mac_spoof_check: bool,
    #[serde(rename = "enabledad")]
    enable_dad: bool,
    disable_container_interface: bool,
    port_isolation: bool,
    ipam: RawIpam,
    dns: Option<RawDns>,
    status_file: Option<PathBuf>,
    runtime_config: RawMac,
    args: RawArgs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawTrunk {
    #[serde(rename = "minID")]
    min_id: Option<i64>,
    #[serde(rename = "maxID")]
    max_id: Option<i64>,
    id: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawIpam {
    r#type: String,
}

/// `dns` with each field's presence kept: an empty list still replaces what IPAM said.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawDns {
    nameservers: Option<Vec<String>>,
    domain: Option<String>,
    search: Option<Vec<String>>,
    options: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawMac {
    mac: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawArgs {
    cni: RawMac,
}

impl BridgeConf {
    /// Reads and checks the configuration of `call`.
    ///
    /// # Errors
    /// Code 7 for a value that cannot be, code 2 for a masquerade backend that nobody knows, code
    /// 4 for a MAC in `CNI_ARGS` that is none. Each names the key, the value and the remedy.
    pub fn of(call: &Call) -> Result<Self> {
        let raw: Raw = call.conf.parse()?;
        let bridge = raw
            .bridge
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| DEFAULT_BRIDGE.to_owned());
        cni::check_interface_name(&bridge).map_err(|why| {
            invalid(format!(
                "\"bridge\": {bridge:?} cannot name a device: {why}"
            ))
        })?;
        if raw.hairpin_mode && raw.promisc_mode {
            return Err(invalid(
                "\"hairpinMode\" and \"promiscMode\" are both true, and frames would be delivered twice: leave one of them out",
            ));
        }
        let ipam = Some(raw.ipam.r#type).filter(|name| !name.is_empty());
        if raw.disable_container_interface && ipam.is_some() {
            return Err(invalid(
                "\"disableContainerInterface\" is true together with \"ipam\", but an interface that is down carries no address: leave one of them out",
            ));
        }
        check_masquerade_backend(raw.ip_masq_backend.as_deref())?;
        Ok(Self {
            bridge,
            is_gateway: raw.is_gateway || raw.is_default_gateway,
            is_default_gateway: raw.is_default_gateway,
            force_address: raw.force_address,
            ip_masq: raw.ip_masq,
            mtu: mtu(raw.mtu)?,
            hairpin: raw.hairpin_mode,
            promisc: raw.promisc_mode,
            isolated: raw.port_isolation,
            mac_spoof_check: raw.mac_spoof_check,
            duplicate_address_detection: raw.enable_dad,
            disable_container_interface: raw.disable_container_interface,
            vlans: Vlans {
                access: access_vlan(raw.vlan)?,
                trunk: raw
                    .vlan_trunk
                    .iter()
                    .map(trunk_range)
                    .collect::<Result<_>>()?,
                preserve_default: raw.preserve_default_vlan,
            },
            ipam,
            dns: raw.dns.and_then(RawDns::replacement),
            status_file: raw.status_file,
            mac: requested_mac(call, raw.args.cni.mac, raw.runtime_config.mac)?,
        })
    }

    /// The gateway of `ip` when IPAM named none: the first host address of its subnet.
    pub fn gateway_of(&self, ip: &cni::IpConfig) -> Option<IpAddr> {
        match ip.gateway {
            Some(gateway) => Some(gateway),
            None if self.is_gateway => Some(crate::subnet::first_host(ip.address)),
            None => None,
        }
    }
}

impl RawDns {
    fn replacement(self) -> Option<Dns> {
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

/// Lowest to highest precedence: `CNI_ARGS`, `args.cni.mac`, `runtimeConfig.mac`.
fn requested_mac(
    call: &Call,
    args: Option<String>,
    runtime: Option<String>,
) -> Result<Option<Mac>> {
    let environment = call.args.parse(KNOWN_ARGS)?.remove("MAC");
    let sources = [
        ("runtimeConfig.mac", runtime, Code::InvalidConfig),
        ("args.cni.mac", args, Code::InvalidConfig),
        ("CNI_ARGS MAC", environment, Code::InvalidEnvironment),
    ];
    for (key, value, code) in sources {
        if let Some(text) = value.filter(|text| !text.is_empty()) {
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
    }
    Ok(None)
}

fn check_masquerade_backend(backend: Option<&str>) -> Result<()> {
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

fn mtu(value: i64) -> Result<Option<u32>> {
    match value {
        0 => Ok(None),
        MIN_MTU..=MAX_MTU => Ok(u32::try_from(value).ok()),
        _ => Err(invalid(format!(
            "\"mtu\": {value} is not an MTU: write {MIN_MTU} to {MAX_MTU}, or 0 for that of the default route's device"
        ))),
    }
}

fn access_vlan(value: i64) -> Result<Option<u16>> {
    match value {
        0 => Ok(None),
        _ => vlan_id("vlan", value).map(Some),
    }
}

fn trunk_range(raw: &RawTrunk) -> Result<(u16, u16)> {
    match (raw.min_id, raw.max_id, raw.id) {
        (None, None, Some(id)) => vlan_id("vlanTrunk.id", id).map(|id| (id, id)),
        (Some(min), Some(max), None) => {
            let range = (
                vlan_id("vlanTrunk.minID", min)?,
                vlan_id("vlanTrunk.maxID", max)?,
            );
            if range.0 > range.1 {
                return Err(invalid(format!(
                    "\"vlanTrunk\": minID {min} is greater than maxID {max}: swap them"
                )));
            }
            Ok(range)
        }
        _ => Err(invalid(
            "\"vlanTrunk\": each entry needs either \"id\" alone or \"minID\" and \"maxID\" together",
        )),
    }
}

fn vlan_id(key: &str, value: i64) -> Result<u16> {
    match u16::try_from(value) {
        Ok(id @ 1..=4094) => Ok(id),
        _ => Err(invalid(format!(
            "\"{key}\": {value} is not a VLAN id: write 1 to 4094"
        ))),
    }
}

fn invalid(msg: impl Into<String>) -> Error {
    Error::new(Code::InvalidConfig, msg)
}
