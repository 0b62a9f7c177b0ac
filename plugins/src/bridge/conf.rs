//! The bridge plugin's configuration: raw keys in, one validated [`BridgeConf`] out.

use std::net::IpAddr;
use std::path::PathBuf;

use cni::{Call, Dns, Result};
use netlink::Mac;
use serde::Deserialize;

use crate::keys::{self, RawDns, RawIpam, RawMac, invalid};

/// The name of the bridge when the configuration gives none, as the reference plugin has it.
const DEFAULT_BRIDGE: &str = "cni0";

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
        let ipam = raw.ipam.plugin();
        if raw.disable_container_interface && ipam.is_some() {
            return Err(invalid(
                "\"disableContainerInterface\" is true together with \"ipam\", but an interface that is down carries no address: leave one of them out",
            ));
        }
        keys::masquerade_backend(raw.ip_masq_backend.as_deref())?;
        Ok(Self {
            bridge,
            is_gateway: raw.is_gateway || raw.is_default_gateway,
            is_default_gateway: raw.is_default_gateway,
            force_address: raw.force_address,
            ip_masq: raw.ip_masq,
            mtu: keys::mtu(raw.mtu, "that of the default route's device")?,
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
            mac: keys::mac([
                ("runtimeConfig.mac", raw.runtime_config.mac),
                ("args.cni.mac", raw.args.cni.mac),
                ("CNI_ARGS MAC", keys::mac_of_args(call)?),
            ])?,
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
