//! Addresses that somebody asks for by name: the user through `args`, the runtime through
//! `runtimeConfig`.

use serde::Deserialize;

/// The keys beside `ipam` that an IPAM plugin reads.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Requests {
    /// `args`, from the user.
    pub args: Args,
    /// `runtimeConfig`, from the runtime.
    pub runtime_config: RuntimeConfig,
}

/// `args`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Args {
    /// `args.cni`.
    pub cni: Addresses,
}

/// `args.cni`, as far as it is about addresses.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Addresses {
    /// `args.cni.ips`.
    pub ips: Vec<String>,
}

/// `runtimeConfig`, as far as it is about addresses.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RuntimeConfig {
    /// The `ips` capability.
    pub ips: Vec<String>,
    /// The `ipRanges` capability.
    pub ip_ranges: Vec<Vec<RawRange>>,
}

/// A range as the configuration writes it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RawRange {
    /// The subnet, without host bits.
    pub subnet: String,
    /// First address to give out.
    pub range_start: String,
    /// Last address to give out.
    pub range_end: String,
    /// The gateway, which is never given out.
    pub gateway: String,
}

/// What `CNI_ARGS` may carry for an IPAM plugin and its caller: `MAC` is the caller's.
pub const KNOWN_ARGS: &[&str] = &["IP", "GATEWAY", "MAC"];
