//! The plugin's configuration: where the leases are, which ranges there are, what was asked for.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cni::{Call, Code, Dns, Error, Result, Route, Version};
use nix::unistd::{AccessFlags, access};
use serde::Deserialize;

use super::range::{Range, RangeSet};
use super::resolv_conf;
use crate::requests::{KNOWN_ARGS, RawRange, Requests};

/// Where leases are kept when the configuration does not say.
const DEFAULT_DATA_DIR: &str = "/var/lib/cni/networks";

/// Where the leases of one network are kept.
#[derive(Clone, Debug)]
pub struct Place {
    /// `dataDir`.
    pub data_dir: PathBuf,
    /// The network's name, which is the name of its directory.
    pub network: String,
}

/// A configuration that has been checked.
#[derive(Debug)]
pub struct Conf {
    /// Where the leases are.
    pub place: Place,
    /// The sets to take one address each of.
    pub sets: Vec<RangeSet>,
    /// Addresses asked for by name.
    pub requested: Vec<IpAddr>,
    /// Routes to pass on.
    pub routes: Vec<Route>,
    /// Resolver settings to pass on.
    pub dns: Dns,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Raw {
    ipam: Option<RawIpam>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawIpam {
    // A single range, the oldest way to write one.
    subnet: String,
    range_start: String,
    range_end: String,
    gateway: String,
    ranges: Vec<Vec<RawRange>>,
    routes: Vec<Route>,
    resolv_conf: String,
}

impl Place {
    /// Reads where the leases are, and nothing else.
    ///
    /// # Errors
    /// Code 7 when `dataDir` is no string.
    pub fn of(call: &Call) -> Result<Self> {
        let given: String = call.conf.parse_key(&["ipam", "dataDir"])?;
        let data_dir = if given.is_empty() {
            DEFAULT_DATA_DIR.to_owned()
        } else {
            given
        };
        Ok(Self {
            data_dir: data_dir.into(),
            network: call.conf.name.clone(),
        })
    }

    /// The directory of the network's leases. A network's name has no slash and does not begin with a dot.
    pub fn leases(&self) -> PathBuf {
        self.data_dir.join(&self.network)
    }

    /// The directory of the index, where the reference plugin never looks and no network's can be.
    pub fn index(&self) -> PathBuf {
        self.data_dir.join(".heddle").join(&self.network)
    }

    /// Refuses directories that another user's link leads to. Nobody but root writes where the default is.
    ///
    /// # Errors
    /// Code 7.
    pub fn check(&self) -> Result<()> {
        if self.data_dir == Path::new(DEFAULT_DATA_DIR) {
            return Ok(());
        }
        let ways = [self.leases(), self.index()];
        let checked = ways.iter().try_for_each(|way| cni::files::check_way(way));
        checked.map_err(|error| Error::new(Code::InvalidConfig, format!("\"dataDir\": {error}")))
    }

    /// Whether an ADD could write here; what is not there yet counts as what it will be made in.
    ///
    /// # Errors
    /// Code 50 when it could not.
    pub fn require_writable(&self) -> Result<()> {
        let leases = self.leases();
        let nearest = leases
            .ancestors()
            .find(|path| path.exists())
            .unwrap_or(Path::new("/"));
        if !nearest.is_dir() {
            return Err(Error::new(
                Code::NotAvailable,
                format!(
                    "{} is not a directory: \"dataDir\" must name one",
                    nearest.display()
                ),
            ));
        }
        access(nearest, AccessFlags::W_OK | AccessFlags::X_OK).map_err(|errno| {
            Error::new(
                Code::NotAvailable,
                format!(
                    "leases cannot be written to {}: {}",
                    nearest.display(),
                    errno.desc()
                ),
            )
        })
    }
}

impl Conf {
    /// Reads and checks the configuration of `call`.
    ///
    /// # Errors
    /// Code 7 for the configuration, code 4 for `CNI_ARGS`.
    pub fn of(call: &Call) -> Result<Self> {
        let raw: Raw = call.conf.parse()?;
        let ipam = raw
            .ipam
            .ok_or_else(|| invalid("IPAM config missing 'ipam' key"))?;
        let requests: Requests = call.conf.parse()?;
        let dns = match ipam.resolv_conf.as_str() {
            "" => Dns::default(),
            path => resolv_conf::read(Path::new(path))?,
        };
        Ok(Self {
            place: Place::of(call)?,
            sets: sets(call.conf.version, &ipam, &requests.runtime_config.ip_ranges)?,
            requested: requested(call, &requests)?,
            routes: ipam.routes,
            dns,
        })
    }
}

/// The sets in the order of the reference, which numbers `last_reserved_ip.N` by it: those of the
/// runtime, the single range, `ranges`.
fn sets(version: Version, ipam: &RawIpam, from_runtime: &[Vec<RawRange>]) -> Result<Vec<RangeSet>> {
    let single = RawRange {
        subnet: ipam.subnet.clone(),
        range_start: ipam.range_start.clone(),
        range_end: ipam.range_end.clone(),
        gateway: ipam.gateway.clone(),
    };
    let single = (!single.subnet.is_empty()).then(|| vec![single]);
    let all = from_runtime
        .iter()
        .chain(single.as_ref())
        .chain(&ipam.ranges);
    let mut sets: Vec<RangeSet> = Vec::new();
    for (index, raw) in all.enumerate() {
        let ranges: std::result::Result<Vec<_>, _> = raw.iter().map(Range::new).collect();
        let set = ranges
            .and_then(RangeSet::new)
            .map_err(|why| invalid(format!("invalid range set {index}: {why}")))?;
        if let Some(why) = sets.iter().find_map(|other| other.conflict(&set)) {
            return Err(invalid(format!("invalid range set {index}: {why}")));
        }
        sets.push(set);
    }
    if sets.is_empty() {
        return Err(invalid(
            "no IP ranges specified: give \"ipam\" a \"subnet\" or \"ranges\"",
        ));
    }
    for v6 in [false, true] {
        let family = if v6 { "IPv6" } else { "IPv4" };
        if version < Version::V0_3_0 && sets.iter().filter(|set| set.is_ipv4() != v6).count() > 1 {
            return Err(invalid(format!(
                "CNI version {version} does not support more than 1 address per family: leave one {family} range set, or set \"cniVersion\" to 0.3.0 or later"
            )));
        }
    }
    Ok(sets)
}

/// What was asked for, by all three ways together; prefix lengths are passed over.
fn requested(call: &Call, requests: &Requests) -> Result<Vec<IpAddr>> {
    let from_args = call
        .args
        .parse(KNOWN_ARGS)?
        .remove("IP")
        .unwrap_or_default();
    let from_args = from_args.split(',').filter(|text| !text.is_empty());
    let mut addresses = Vec::new();
    for text in from_args {
        addresses.push(address("CNI_ARGS IP", text, Code::InvalidEnvironment)?);
    }
    for (key, list) in [
        ("args.cni.ips", &requests.args.cni.ips),
        ("runtimeConfig.ips", &requests.runtime_config.ips),
    ] {
        for text in list {
            addresses.push(address(key, text, Code::InvalidConfig)?);
        }
    }
    Ok(addresses)
}

fn address(key: &str, text: &str, code: Code) -> Result<IpAddr> {
    let bare = text.split_once('/').map_or(text, |(bare, _)| bare);
    bare.parse().map_err(|_| {
        Error::new(
            code,
            format!("{key}: {text:?} is not an IP address: write for example \"10.0.0.5\""),
        )
    })
}

fn invalid(msg: impl Into<String>) -> Error {
    Error::new(Code::InvalidConfig, msg)
}
