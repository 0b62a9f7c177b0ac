//! The daemon's configuration: a TOML file, the environment over it, flags over that; checked before anything is done.

mod check;
mod secret;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Serialized};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

pub use secret::{REDACTED, Secret};

/// Every key; each of them can also be given as `HEDDLE_<KEY>` in the environment. The commented example is
/// `conf/heddle.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// This node's name, unique in the cluster; the host's name unless given.
    pub node_name: String,
    /// The interface that leads to the other nodes; that of the default route unless given.
    pub underlay: Option<String>,
    /// Where pods get their addresses from: one range of each family at most. Empty with `static` membership, where
    /// every node's CIDRs are written down.
    pub cluster_cidrs: Vec<IpNetwork>,
    /// Prefix length of a node's share of the IPv4 range, 16–30.
    pub node_prefix_v4: u8,
    /// Prefix length of a node's share of the IPv6 range, 48–120.
    pub node_prefix_v6: u8,
    /// The bridge that pods are put on.
    pub bridge: String,
    /// VXLAN network identifier, 1–16777215.
    pub vni: u32,
    /// UDP port of VXLAN, the same on all nodes.
    pub vxlan_port: u16,
    /// Whether peers in the same layer 2 network are reached without VXLAN.
    pub direct_routing: DirectRouting,
    /// Whether what pods send out of the cluster leaves with the node's address.
    pub masquerade: bool,
    /// Destinations outside of the cluster that see the pods' own addresses.
    pub masquerade_exclude: Vec<IpNetwork>,
    /// Whether eBPF programs carry established connections between pods of different nodes past bridge and netfilter.
    pub fast_path: bool,
    /// Where the set of nodes comes from.
    pub membership: MembershipKind,
    /// `static`: the file with all nodes, read again when it changes.
    pub nodes_file: PathBuf,
    /// `gossip`: the electors, 1, 3 or 5 of them, as `ADDRESS` or `ADDRESS:PORT`; the same list on all nodes.
    pub peers: Vec<String>,
    /// `gossip`: secrets; the first seals, all open.
    pub keys: Vec<Secret>,
    /// `gossip`: UDP port.
    pub gossip_port: u16,
    /// `gossip`: after how many seconds of silence a node's CIDRs may be given to another; at least 60.
    pub quarantine_seconds: u64,
    /// After how many seconds a node that has gone is taken out of the kernel.
    pub grace_seconds: u64,
    /// `kubernetes`: how to reach the API server; by the pod's service account unless given.
    pub kubeconfig: Option<PathBuf>,
    /// UDP port of the probes through the overlay, the same on all nodes.
    pub probe_port: u16,
    /// A TCP address for the page at `/`, `/status`, `/events`, `/healthz`, `/readyz` and `/metrics`, besides the socket in `run_dir`.
    pub http: Option<SocketAddr>,
    /// Where the daemon keeps what must outlive it.
    pub state_dir: PathBuf,
    /// Where its socket and lock are.
    pub run_dir: PathBuf,
    /// Where the conflist goes.
    pub cni_conf_dir: PathBuf,
    /// Who may reach a node's pods: with it the conflist chains `firewall` with this `ingressPolicy`.
    pub ingress_policy: Option<IngressPolicy>,
    /// Where sysctls are written; elsewhere than `/proc/sys` in a container, which has that read-only.
    pub sysctl_dir: PathBuf,
    /// The file with the secrets, where others than root may read or change it.
    #[serde(skip)]
    pub exposed: Option<PathBuf>,
}

/// When peers are reached without VXLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DirectRouting {
    /// Where the underlay has them on-link.
    Auto,
    /// Never.
    Never,
    /// Always; a peer that is not on-link is not reached at all.
    Always,
}

/// Where the set of nodes comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MembershipKind {
    /// A file.
    Static,
    /// The nodes themselves.
    Gossip,
    /// The API server.
    Kubernetes,
}

/// `ingressPolicy` of the plugin `firewall`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IngressPolicy {
    /// Everyone.
    Open,
    /// Pods of the same bridge, and answers.
    SameBridge,
    /// No other pod.
    Isolated,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node_name: host_name(),
            underlay: None,
            cluster_cidrs: Vec::new(),
            node_prefix_v4: 24,
            node_prefix_v6: 64,
            bridge: "cbr0".into(),
            vni: 1,
            vxlan_port: 8472,
            direct_routing: DirectRouting::Auto,
            masquerade: true,
            masquerade_exclude: Vec::new(),
            fast_path: false,
            membership: MembershipKind::Gossip,
            nodes_file: "/etc/heddle/nodes.toml".into(),
            peers: Vec::new(),
            keys: Vec::new(),
            gossip_port: 7946,
            quarantine_seconds: 86_400,
            grace_seconds: 300,
            kubeconfig: None,
            probe_port: 7947,
            http: None,
            state_dir: "/var/lib/heddle".into(),
            run_dir: "/run/heddle".into(),
            cni_conf_dir: "/etc/cni/net.d".into(),
            ingress_policy: None,
            sysctl_dir: "/proc/sys".into(),
            exposed: None,
        }
    }
}

/// A configuration that cannot be used: the key, its value and the remedy in one sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

impl Config {
    /// Reads the file, lays the environment over it and then the `flags` that were given, and checks the whole.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn load(file: &Path, flags: impl Serialize) -> Result<Self, Invalid> {
        if !file.is_file() {
            return Err(Invalid(format!(
                "there is no configuration {}: write one (conf/heddle.toml is an example), or name it with --config",
                file.display()
            )));
        }
        let text = fs::read_to_string(file)
            .map_err(|error| Invalid(format!("cannot read {}: {error}", file.display())))?;
        let mut config = Self::parse(&text, file, flags)?;
        let mode = file.metadata().map(|meta| meta.permissions().mode());
        let is_private = mode.is_ok_and(|mode| mode & 0o077 == 0);
        config.exposed = (!config.keys.is_empty() && !is_private).then(|| file.to_path_buf());
        Ok(config)
    }

    /// [`Config::load`] of what stands in the file.
    pub(crate) fn parse(text: &str, file: &Path, flags: impl Serialize) -> Result<Self, Invalid> {
        let defaults = Self::default();
        // Only what is a key: other programs of Heddle's have variables of their own.
        let keys = serde_json::to_value(&defaults).unwrap_or_default();
        let keys: Vec<&str> = keys
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key.as_str())
            .collect();
        let table: toml::Table =
            toml::from_str(text).map_err(|error| Invalid(slip(&error, text, file)))?;
        let config: Self = Figment::from(Serialized::defaults(&defaults))
            .merge(Serialized::defaults(table))
            .merge(Env::prefixed("HEDDLE_").only(&keys))
            .merge(Serialized::defaults(flags))
            .extract()
            .map_err(|error| Invalid(explain(&error, file)))?;
        config.check().map_err(Invalid)?;
        Ok(config)
    }

    /// How many shares the cluster range has; the smaller number where there are two ranges.
    pub fn slots(&self) -> u32 {
        let counts = self.cluster_cidrs.iter().map(|range| {
            let bits = self.node_prefix(*range).saturating_sub(range.prefix());
            1_u32 << bits.min(24)
        });
        counts.min().unwrap_or_default()
    }

    /// The CIDRs of one share, a number below [`Config::slots`].
    pub fn cidrs_of_slot(&self, slot: u32) -> Vec<IpNetwork> {
        let share = |range: &IpNetwork| {
            let prefix = self.node_prefix(*range);
            match range {
                IpNetwork::V4(v4) => {
                    let first = u32::from(v4.network()) + (slot << (32 - prefix));
                    IpNetwork::new(std::net::Ipv4Addr::from(first).into(), prefix)
                }
                IpNetwork::V6(v6) => {
                    let first = u128::from(v6.network()) + (u128::from(slot) << (128 - prefix));
                    IpNetwork::new(std::net::Ipv6Addr::from(first).into(), prefix)
                }
            }
        };
        self.cluster_cidrs
            .iter()
            .filter_map(|range| share(range).ok())
            .collect()
    }

    fn node_prefix(&self, range: IpNetwork) -> u8 {
        match range {
            IpNetwork::V4(_) => self.node_prefix_v4,
            IpNetwork::V6(_) => self.node_prefix_v6,
        }
    }
}

/// Says what is wrong with a key, and of a secret no more than that it is wrong.
fn explain(error: &figment::Error, file: &Path) -> String {
    let key = match error.path.is_empty() {
        true => String::new(),
        false => format!("\"{}\": ", error.path.join(".")),
    };
    let what = match error.path.first() {
        Some(key) if key == "keys" => "this is no list of secrets, each in quotes".to_owned(),
        _ => error.kind.to_string(),
    };
    let file = file.display();
    format!("{file}: {key}{what}; see conf/heddle.toml for every key")
}

/// Names the line of a slip of the pen, but does not show it: a secret may stand there.
fn slip(error: &toml::de::Error, text: &str, file: &Path) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(1, |before| before.matches('\n').count() + 1);
    let file = file.display();
    format!(
        "{file}: line {line}: {}; see conf/heddle.toml for every key",
        error.message()
    )
}

fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
