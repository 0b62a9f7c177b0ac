//! The sysctls without which packets do not flow; each is set only where it differs, and what the host had is written down
//! for `heddle cleanup`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use netlink::sysctl::Tree;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::local::Local;
use crate::membership::write_durably;
use crate::names::DEVICE;

/// Turns forwarding on, and what goes with it. Returns what could not be set, a sentence each.
pub fn prepare(local: &Local, config: &Config) -> Vec<String> {
    let uplink = &local.name;
    let device = |family: &str, key: &str| format!("net/{family}/conf/{DEVICE}/{key}");
    let accept_ra = format!("net/ipv6/conf/{uplink}/accept_ra");
    let tree = Tree::new(&config.sysctl_dir);
    let mut problems = Vec::new();
    let mut ensure = |key: &str, value: &str| {
        if let Err(why) = ensure(config, key, value) {
            problems.push(format!(
                "{why}: set it by hand, or give the daemon a \"sysctl_dir\" that it may write"
            ));
        }
    };
    ensure("net/ipv4/ip_forward", "1");
    // A host that forwards passes router advertisements over, and loses its default route, unless told not to.
    if tree.get(&accept_ra).is_ok_and(|value| value == "1") {
        ensure(&accept_ra, "2");
    }
    ensure("net/ipv6/conf/all/forwarding", "1");
    ensure(&device("ipv6", "accept_ra"), "0");
    // Loose: a packet may come by VXLAN and its answer leave directly. The stricter of this and `all` would be 1.
    ensure(&device("ipv4", "rp_filter"), "2");
    // Connection tracking sees one packet a second of a fast connection: it must not take the jumps for errors.
    if config.fast_path {
        ensure("net/netfilter/nf_conntrack_tcp_be_liberal", "1");
    }
    problems
}

/// Gives the host back what it had, where nobody has changed it since. Returns the settings.
///
/// # Errors
/// What could not be set, a sentence each.
pub fn restore(config: &Config) -> Result<Vec<String>, String> {
    let tree = Tree::new(&config.sysctl_dir);
    let mut restored = Vec::new();
    let mut failures = Vec::new();
    for (key, setting) in load(config) {
        if !tree.get(&key).is_ok_and(|now| now == setting.now) {
            continue;
        }
        match tree.set(&key, &setting.before) {
            Ok(()) => restored.push(format!("sysctl {key} = {}", setting.before)),
            Err(error) => failures.push(error.to_string()),
        }
    }
    match failures.is_empty() {
        true => Ok(restored),
        false => Err(failures.join("; ")),
    }
}

/// A sysctl of the host's.
#[derive(Debug, Serialize, Deserialize)]
struct Setting {
    before: String,
    now: String,
}

fn ensure(config: &Config, key: &str, value: &str) -> Result<(), String> {
    let tree = Tree::new(&config.sysctl_dir);
    let before = match tree.get(key) {
        Ok(before) if before == value => return Ok(()),
        Ok(before) => before,
        // A kernel without IPv6, a device that is not there yet.
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    // What is our own device's goes with it.
    if !key.contains(DEVICE) {
        write_down(config, key, before, value).map_err(|error| {
            format!(
                "cannot write down what {key} was in {}: {error}",
                file(config).display()
            )
        })?;
    }
    tree.set(key, value).map_err(|error| error.to_string())?;
    tracing::info!("sysctl {key} = {value}");
    Ok(())
}

fn write_down(config: &Config, key: &str, before: String, now: &str) -> io::Result<()> {
    let mut settings = load(config);
    let now = now.to_owned();
    // Set by someone between two of our writes: the first value is still the host's own.
    settings
        .entry(key.to_owned())
        .or_insert(Setting { before, now });
    write_durably(&file(config), &serde_json::to_vec_pretty(&settings)?)
}

fn load(config: &Config) -> BTreeMap<String, Setting> {
    let bytes = fs::read(file(config)).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn file(config: &Config) -> PathBuf {
    config.state_dir.join("sysctls.json")
}
