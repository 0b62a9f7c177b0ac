//! What tuning reads: its keys, with what `args.cni`, `CNI_ARGS` and the runtime put in their place.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cni::{Call, Code, Error, Result};
use netlink::Mac;
use serde::Deserialize;

use super::sysctls::Sysctl;

const DEFAULT_DATA_DIR: &str = "/run/cni/tuning";

/// The keys, checked.
#[derive(Debug)]
pub struct TuningConf {
    /// Kernel settings of the pod.
    pub sysctls: Vec<Sysctl>,
    /// Settings of the pod's link.
    pub link: Wanted,
    /// Where what was before is kept.
    pub data_dir: PathBuf,
}

/// Settings of a link; what is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Hardware address.
    pub mac: Option<Mac>,
    /// MTU of both ends, in bytes.
    pub mtu: Option<u32>,
    /// Promiscuous mode; only ever switched on.
    pub promisc: bool,
    /// Whether to take all multicast.
    pub all_multicast: Option<bool>,
    /// Packets in the queue.
    pub tx_queue_length: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Keys {
    sysctl: Option<BTreeMap<String, String>>,
    mac: Option<String>,
    promisc: Option<bool>,
    mtu: Option<u32>,
    allmulti: Option<bool>,
    #[serde(rename = "txQLen")]
    tx_q_len: Option<u32>,
    data_dir: Option<String>,
}

impl TuningConf {
    /// Reads and checks the keys.
    ///
    /// # Errors
    /// Code 7 for one that cannot be.
    pub fn of(call: &Call) -> Result<Self> {
        let keys: Keys = call.conf.parse()?;
        let args: Keys = call.conf.parse_key(&["args", "cni"])?;
        let runtime: Option<String> = call.conf.parse_key(&["runtimeConfig", "mac"])?;
        let mut sysctls = keys.sysctl.unwrap_or_default();
        sysctls.extend(args.sysctl.unwrap_or_default());
        let mtu = args.mtu.or(keys.mtu).filter(|mtu| *mtu != 0);
        let environment = call.args.parse(&["MAC"])?.remove("MAC");
        let macs = [
            ("args.cni.mac", args.mac),
            ("runtimeConfig.mac", runtime),
            ("CNI_ARGS MAC", environment),
            ("mac", keys.mac),
        ];
        // STATUS is about no interface: its place in the keys stays as it is.
        let ifname = match call.attachment.ifname.as_str() {
            "" => "IFNAME",
            ifname => ifname,
        };
        Ok(Self {
            sysctls: sysctls
                .into_iter()
                .map(|(key, value)| Sysctl::new(&key, value, ifname))
                .collect::<Result<_>>()?,
            link: Wanted {
                mac: mac(macs)?,
                mtu,
                promisc: args.promisc.or(keys.promisc).unwrap_or_default(),
                all_multicast: args.allmulti.or(keys.allmulti),
                tx_queue_length: args.tx_q_len.or(keys.tx_q_len),
            },
            data_dir: data_dir(call)?,
        })
    }

    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.sysctls.is_empty() && self.link == Wanted::default()
    }
}

/// Where what was before is kept, read by itself because DEL must work with whatever the other keys say.
///
/// # Errors
/// Code 7 when it is no text.
pub fn data_dir(call: &Call) -> Result<PathBuf> {
    let dir: String = call.conf.parse_key(&["dataDir"])?;
    Ok(match dir.as_str() {
        "" => PathBuf::from(DEFAULT_DATA_DIR),
        dir => PathBuf::from(dir),
    })
}

/// The address of the first source that gives one.
fn mac(sources: [(&str, Option<String>); 4]) -> Result<Option<Mac>> {
    let found = sources
        .into_iter()
        .find_map(|(key, text)| Some((key, text.filter(|text| !text.is_empty())?)));
    let Some((key, text)) = found else {
        return Ok(None);
    };
    match text.parse::<Mac>() {
        Ok(mac) if !mac.is_multicast() => Ok(Some(mac)),
        _ => Err(Error::new(
            Code::InvalidConfig,
            format!(
                "{key}: {text:?} is not the MAC address of an interface, such as \"0a:58:0a:16:00:05\""
            ),
        )),
    }
}
