//! `heddle gc`: what pods that have gone have left on this node, and the end of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cni::runtime::{Conflist, Runtime};
use cni::{Attachment, identity};
use ipam::Lease;
use netlink::{Handle, Link};
use serde::Serialize;

use crate::config::Config;
use crate::conflist::{self, NETWORK};
use crate::runtime;

/// Where host-local keeps leases unless told otherwise.
const LEASES: &str = "/var/lib/cni/networks";
/// A pod that is just being made has a lease before it has anything else.
const YOUNG: Duration = Duration::from_secs(60);

/// Something that is left over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Leftover {
    /// `lease` or `link`.
    pub kind: &'static str,
    /// The address, or the link's name.
    pub object: String,
    /// The container that it was for, where that is known.
    pub container: Option<String>,
}

fn directory() -> PathBuf {
    Path::new(LEASES).join(NETWORK)
}

/// The leases of this node's pods; none before the first pod.
///
/// # Errors
/// When they cannot be read.
pub fn leases() -> Result<Vec<Lease>, String> {
    match ipam::leases(&directory()) {
        Ok(leases) => Ok(leases),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(format!("cannot read {}: {error}", directory().display())),
    }
}

/// The pods of this node by what is there of them, and what is left of others.
#[derive(Debug)]
pub struct Inventory {
    /// Every lease.
    pub leases: Vec<Lease>,
    /// Names of the host's ends of the pods' links.
    ports: BTreeMap<String, String>,
    links: Vec<Link>,
}

impl Inventory {
    /// Looks at the leases and links of this node.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn take(handle: &mut Handle) -> Result<Self, String> {
        let leases = leases()?;
        let links = handle.links().map_err(|error| error.to_string())?;
        let named = links
            .iter()
            .filter_map(|link| Some((link.name.clone(), link.alias.clone()?)));
        Ok(Self {
            leases,
            ports: named
                .filter(|(_, alias)| identity::belongs_to(alias, NETWORK))
                .collect(),
            links,
        })
    }

    /// Leases without a pod, those apart that may be of one that is being made.
    pub fn unused(&self) -> Vec<&Lease> {
        let unused = self.leases.iter().filter(|lease| !self.is_used(lease));
        unused
            .filter(|lease| !self.is_young(lease.address))
            .collect()
    }

    /// Host ends of pods without a lease.
    pub fn unleased(&self) -> Vec<&str> {
        let owners = self.leases.iter().filter_map(|lease| lease.owner.as_ref());
        let leased: BTreeSet<String> = owners
            .map(|owner| identity::host_link_name(&owner.0))
            .collect();
        let old = self.leases.iter().any(|lease| {
            let owner = lease.owner.as_ref();
            owner.is_some_and(|owner| owner.0.ifname.is_empty())
        });
        // A lease of before interfaces were written down is anyone's of that container.
        let ports = self
            .ports
            .keys()
            .filter(|port| !old && !leased.contains(*port));
        ports
            .filter(|port| port.starts_with("veth"))
            .map(String::as_str)
            .collect()
    }

    /// A lease of before interfaces were written down is judged by its container alone.
    fn is_used(&self, lease: &Lease) -> bool {
        let Some(owner) = &lease.owner else {
            return false;
        };
        match owner.0.ifname.is_empty() {
            false => self.ports.contains_key(&identity::host_link_name(&owner.0)),
            true => self
                .ports
                .values()
                .any(|alias| alias.split('/').nth(2) == Some(owner.0.container_id.as_str())),
        }
    }

    fn is_young(&self, address: IpAddr) -> bool {
        let modified =
            fs::metadata(directory().join(address.to_string())).and_then(|meta| meta.modified());
        modified.is_ok_and(|time| {
            SystemTime::now()
                .duration_since(time)
                .is_ok_and(|age| age < YOUNG)
        })
    }

    /// The attachments that are there, or may be in a moment.
    fn valid(&self) -> BTreeSet<(String, String)> {
        let leased = self
            .leases
            .iter()
            .filter(|lease| self.is_used(lease) || self.is_young(lease.address));
        let leased = leased.filter_map(|lease| lease.owner.as_ref().map(|owner| &owner.0));
        let mut valid: BTreeSet<(String, String)> = leased
            .map(|owner| (owner.container_id.clone(), owner.ifname.clone()))
            .collect();
        for (port, alias) in &self.ports {
            if let Some((_, attachment)) = identity::parse_mark(alias)
                && identity::host_link_name(&attachment) == *port
            {
                valid.insert((attachment.container_id, attachment.ifname));
            }
        }
        valid
    }

    /// All that is left over.
    pub fn leftovers(&self) -> Vec<Leftover> {
        let mut left: Vec<Leftover> = self
            .unused()
            .into_iter()
            .map(|lease| Leftover {
                kind: "lease",
                object: lease.address.to_string(),
                container: lease
                    .owner
                    .as_ref()
                    .map(|owner| owner.0.container_id.clone()),
            })
            .collect();
        let valid = self.valid();
        for link in &self.links {
            let alias = link.alias.as_deref().unwrap_or_default();
            if let Some((network, attachment)) = identity::parse_mark(alias)
                && network == NETWORK
                && !valid.contains(&(attachment.container_id.clone(), attachment.ifname))
            {
                left.push(Leftover {
                    kind: "link",
                    object: link.name.clone(),
                    container: Some(attachment.container_id),
                });
            }
        }
        left.sort();
        left
    }
}

/// Finds what is left over and, unless `dry_run`, has the plugins of the conflist remove it: their GC, with the attachments
/// that are there. What is left besides leases and links (rules, set elements, backups) goes with it.
///
/// # Errors
/// When the node cannot be looked at, or a plugin fails.
pub fn gc(config: &Config, dry_run: bool) -> Result<Vec<Leftover>, String> {
    let mut handle = Handle::new().map_err(|error| error.to_string())?;
    let inventory = Inventory::take(&mut handle)?;
    let left = inventory.leftovers();
    if dry_run {
        return Ok(left);
    }
    let path = conflist::Conflist::new(config).path();
    let list =
        Conflist::load(&path).map_err(|error| format!("cannot use {}: {error}", path.display()))?;
    let valid = inventory.valid().into_iter();
    let valid: Vec<Attachment> = valid
        .map(|(container_id, ifname)| Attachment {
            container_id,
            ifname,
        })
        .collect();
    let runtime: Runtime = runtime::local();
    runtime
        .gc(&list, Some(&valid))
        .map_err(|error| error.to_string())?;
    Ok(left)
}
