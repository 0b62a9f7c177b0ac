//! The conflist: what tells the container runtime that this node can carry pods. Written last, whole, and only when it
//! would say something new.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use cni::files;
use ipnetwork::IpNetwork;
use itertools::Itertools;
use netlink::{Handle, link};
use serde_json::{Value, json};

use crate::config::{Config, IngressPolicy};
use crate::health::StatusFile;

/// Its name in the runtime's directory.
const FILE: &str = "10-heddle.conflist";
/// Name of the network.
pub const NETWORK: &str = "heddle";
/// What it is moved to while the node must not give addresses away.
const FENCED: &str = "10-heddle.conflist.fenced";

/// The conflist of a node.
#[derive(Clone, Debug)]
pub struct Conflist {
    directory: PathBuf,
    bridge: String,
    status_file: PathBuf,
    ingress_policy: Option<IngressPolicy>,
}

impl Conflist {
    /// Where it belongs.
    pub fn new(config: &Config) -> Self {
        Self {
            directory: config.cni_conf_dir.clone(),
            bridge: config.bridge.clone(),
            status_file: StatusFile::new(config).path().clone(),
            ingress_policy: config.ingress_policy,
        }
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    /// Whether it is there.
    pub fn is_there(&self) -> bool {
        self.path().is_file()
    }

    /// Writes it for these CIDRs and this MTU; true when that was needed. Pods that hang on the bridge with addresses of
    /// other CIDRs would lose their gateway and their routes, so it is refused while there are any.
    ///
    /// # Errors
    /// A sentence that says what stands in the way.
    pub fn write(&self, pod_cidrs: &[IpNetwork], mtu: u32) -> Result<bool, String> {
        let text = self.render(pod_cidrs, mtu);
        let path = self.path();
        let there =
            fs::read_to_string(&path).or_else(|_| fs::read_to_string(self.directory.join(FENCED)));
        let there = there.unwrap_or_default();
        if there == text && path.is_file() {
            return Ok(false);
        }
        let old = cidrs_of(&there);
        if !old.is_empty() && old != pod_cidrs {
            self.leave_old_cidrs(&old, pod_cidrs)?;
        }
        self.replace(&path, &text)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        fs::remove_file(self.directory.join(FENCED)).ok();
        Ok(true)
    }

    /// Takes it from the runtime without losing what it says; true when that was needed.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn fence(&self) -> Result<bool, String> {
        match fs::rename(self.path(), self.directory.join(FENCED)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(format!("cannot rename {}: {error}", self.path().display())),
        }
    }

    /// Removes it, if it is one of ours; true when that was needed.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self) -> Result<bool, String> {
        let mut removed = false;
        for path in [self.path(), self.directory.join(FENCED)] {
            let text = fs::read_to_string(&path).unwrap_or_default();
            if !cidrs_of(&text).is_empty() {
                fs::remove_file(&path)
                    .map_err(|error| format!("cannot remove {}: {error}", path.display()))?;
                removed = true;
            }
        }
        Ok(removed)
    }

    fn render(&self, pod_cidrs: &[IpNetwork], mtu: u32) -> String {
        let ranges: Vec<Value> = pod_cidrs
            .iter()
            .map(|cidr| json!([{"subnet": cidr.to_string()}]))
            .collect();
        // Masquerading is the daemon's: it knows the cluster, the plugin only the node.
        let mut plugins = vec![
            json!({
                "type": "heddle-bridge",
                "bridge": self.bridge,
                "isDefaultGateway": true,
                "hairpinMode": true,
                "mtu": mtu,
                "statusFile": self.status_file,
                "ipam": {"type": "heddle-host-local", "ranges": ranges},
            }),
            json!({"type": "heddle-portmap", "capabilities": {"portMappings": true}, "snat": true}),
            json!({"type": "heddle-bandwidth", "capabilities": {"bandwidth": true}}),
        ];
        plugins.extend(
            self.ingress_policy
                .map(|policy| json!({"type": "heddle-firewall", "ingressPolicy": policy})),
        );
        let conflist = json!({
            "cniVersion": "1.0.0",
            "cniVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"],
            "name": NETWORK,
            "plugins": plugins,
        });
        format!("{conflist:#}\n")
    }

    /// Makes way for new CIDRs: the bridge goes with its old gateway, unless pods are on it.
    fn leave_old_cidrs(&self, old: &[IpNetwork], new: &[IpNetwork]) -> Result<(), String> {
        let said = |error: netlink::Error| error.to_string();
        let mut handle = Handle::new().map_err(said)?;
        let Some(bridge) = handle.link(&self.bridge).map_err(said)? else {
            return Ok(());
        };
        let links = handle.links().map_err(said)?;
        let pods = links
            .iter()
            .filter(|link| link.master == Some(bridge.index))
            .count();
        if pods > 0 {
            return Err(format!(
                "the node's pod CIDRs changed from {} to {} while {pods} pods have addresses of the old ones: drain the node, its conflist stays as it is until then",
                old.iter().join(", "),
                new.iter().join(", ")
            ));
        }
        match handle.execute(vec![link::delete(bridge.index)]) {
            Err(error) if !error.is_not_found() => Err(said(error)),
            _ => Ok(()),
        }
    }

    /// A complete file beside it takes its name: a runtime that watches the directory never sees half of one.
    fn replace(&self, path: &Path, text: &str) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        // A name that no runtime reads.
        let temporary = self
            .directory
            .join(format!(".{FILE}.{}", std::process::id()));
        let written = files::create(&temporary, 0o644).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, path)
        });
        if written.is_err() {
            fs::remove_file(&temporary).ok();
        }
        written
    }
}

/// The CIDRs of a conflist that we have written; none of any other file's.
fn cidrs_of(text: &str) -> Vec<IpNetwork> {
    let conflist: Value = serde_json::from_str(text).unwrap_or_default();
    let bridge = &conflist["plugins"][0];
    if conflist["name"] != NETWORK || bridge["type"] != "heddle-bridge" {
        return Vec::new();
    }
    let sets = bridge["ipam"]["ranges"].as_array().into_iter().flatten();
    let subnets = sets.filter_map(|set| set[0]["subnet"].as_str());
    subnets.filter_map(|subnet| subnet.parse().ok()).collect()
}
