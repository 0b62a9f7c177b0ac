//! `sysctl`: kernel settings in the pod's namespace, below `net` only, and the list of those that are allowed.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use cni::{Code, Error, Result};
use netlink::netns::Netns;
use netlink::sysctl;
use regex_lite::Regex;

use super::backup::Backup;
use super::conf::TuningConf;
use crate::error::{Failures, kernel};

/// A regular expression a line; where it exists, a key has to match one of them. The reference's file.
const ALLOWLIST: &str = "/etc/cni/tuning/allowlist.conf";

/// One setting.
#[derive(Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// As it stands in the configuration.
    key: String,
    /// Below `/proc/sys`.
    path: String,
    value: String,
}

impl Sysctl {
    /// Reads a key: its parts are joined by dots or by slashes, whichever comes first, and `IFNAME` is the pod's
    /// interface.
    ///
    /// # Errors
    /// Code 7 for a key outside `net`.
    pub fn new(key: &str, value: String, ifname: &str) -> Result<Self> {
        let by_dots = key.find(['.', '/']).and_then(|at| key.get(at..=at)) == Some(".");
        let path: String = match by_dots {
            // In the dotted form a slash stands for a dot within a part, as in sysctl(8).
            true => key
                .chars()
                .map(|letter| match letter {
                    '.' => '/',
                    '/' => '.',
                    other => other,
                })
                .collect(),
            false => key.to_owned(),
        };
        let path = path.trim_start_matches('/').replacen("IFNAME", ifname, 1);
        if !is_of_a_pod(&path) {
            return Err(Error::new(
                Code::InvalidConfig,
                format!(
                    "invalid key {key:?} in \"sysctl\": only settings below net can be changed, such as net.core.somaxconn"
                ),
            ));
        }
        Ok(Self {
            key: key.to_owned(),
            path,
            value,
        })
    }
}

/// Whether a path below `/proc/sys` is that of a setting which a pod has for itself.
pub(super) fn is_of_a_pod(path: &str) -> bool {
    let is_clean = path.split('/').all(|part| !["", ".", ".."].contains(&part));
    is_clean && path.starts_with("net/")
}

/// Whether the administrator of the node lets these keys be changed.
///
/// # Errors
/// Code 7 for a key that no line of the list matches; code 5 when the list cannot be read.
pub fn check_allowed(conf: &TuningConf) -> Result<()> {
    if conf.sysctls.is_empty() {
        return Ok(());
    }
    let list = match fs::read_to_string(ALLOWLIST) {
        Ok(list) => list,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(Error::new(
                Code::Io,
                format!("cannot read {ALLOWLIST}: {error}"),
            ));
        }
    };
    let lines = list.lines().map(str::trim).filter(|line| !line.is_empty());
    let patterns: Vec<Regex> = lines
        .map(|line| {
            Regex::new(line).map_err(|error| {
                Error::new(
                    Code::InvalidConfig,
                    format!("{ALLOWLIST}: {line:?} is no regular expression: {error}"),
                )
            })
        })
        .collect::<Result<_>>()?;
    for sysctl in &conf.sysctls {
        if !patterns.iter().any(|pattern| pattern.is_match(&sysctl.key)) {
            return Err(Error::new(
                Code::InvalidConfig,
                format!(
                    "key {:?} in \"sysctl\" is not allowed on this node: no line of {ALLOWLIST} matches it",
                    sysctl.key
                ),
            ));
        }
    }
    Ok(())
}

/// Writes down what the settings are now, unless an earlier ADD has.
///
/// # Errors
/// Code 7 for one that the kernel does not have.
pub fn remember(netns: &Netns, wanted: &[Sysctl], backup: &mut Backup) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let read = || -> Result<()> {
        for one in wanted {
            let value = sysctl::get(&one.path).map_err(|error| failed(one, error))?;
            if !same(&value, &one.value) {
                backup.sysctl.entry(one.path.clone()).or_insert(value);
            }
        }
        Ok(())
    };
    netns.run(read).map_err(kernel)?
}

/// Changes the settings that are not yet as they are wanted.
///
/// # Errors
/// When the kernel refuses a value.
pub fn apply(netns: &Netns, wanted: &[Sysctl]) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let write = || -> Result<()> {
        for one in wanted {
            let set = || {
                if same(&sysctl::get(&one.path)?, &one.value) {
                    return Ok(());
                }
                sysctl::set(&one.path, &one.value)
            };
            set().map_err(|error| failed(one, error))?;
        }
        Ok(())
    };
    netns.run(write).map_err(kernel)?
}

/// Puts back what was written down; a setting that went with its interface needs none.
///
/// # Errors
/// What the kernel refused.
pub fn restore(netns: &Netns, before: &BTreeMap<String, String>) -> Result<()> {
    if before.is_empty() {
        return Ok(());
    }
    let write = || {
        let mut failures = Failures::default();
        for (path, value) in before {
            match sysctl::set(path, value) {
                Err(error) if !error.is_not_found() => failures.note(Err(kernel(error))),
                _ => {}
            }
        }
        failures.into_result()
    };
    netns.run(write).map_err(kernel)?
}

/// Whether the settings are as they are wanted.
///
/// # Errors
/// Code 999 for one that is not.
pub fn check(netns: &Netns, wanted: &[Sysctl]) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let read = || -> Result<()> {
        for one in wanted {
            let value = sysctl::get(&one.path).map_err(|error| failed(one, error))?;
            if !same(&value, &one.value) {
                return Err(Error::new(
                    Code::Internal,
                    format!(
                        "sysctl {} of the pod is {value:?} and not {:?}",
                        one.path, one.value
                    ),
                ));
            }
        }
        Ok(())
    };
    netns.run(read).map_err(kernel)?
}

/// The kernel puts tabs between several values.
fn same(found: &str, wanted: &str) -> bool {
    found.split_whitespace().eq(wanted.split_whitespace())
}

fn failed(one: &Sysctl, error: netlink::Error) -> Error {
    if error.is_not_found() {
        return Error::new(
            Code::InvalidConfig,
            format!(
                "key {:?} in \"sysctl\": the kernel has no setting {}",
                one.key, one.path
            ),
        );
    }
    kernel(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_paths_below_net() {
        for (key, path) in [
            ("net.core.somaxconn", "net/core/somaxconn"),
            (
                "net/ipv4/conf/eth0.5/proxy_arp",
                "net/ipv4/conf/eth0.5/proxy_arp",
            ),
            (
                "net.ipv4.conf.eth0/5.proxy_arp",
                "net/ipv4/conf/eth0.5/proxy_arp",
            ),
            (
                "net.ipv4.conf.IFNAME.proxy_arp",
                "net/ipv4/conf/e.1/proxy_arp",
            ),
            (
                "net/ipv4/conf/IFNAME/proxy_arp",
                "net/ipv4/conf/e.1/proxy_arp",
            ),
        ] {
            let sysctl = Sysctl::new(key, String::new(), "e.1").map(|sysctl| sysctl.path);
            assert_eq!(sysctl.ok().as_deref(), Some(path), "{key}");
        }
        for key in [
            "kernel.panic",
            "net",
            "net..x",
            "net/../kernel/panic",
            "",
            "net/ipv4/",
        ] {
            assert!(Sysctl::new(key, String::new(), "eth0").is_err(), "{key}");
        }
    }
}
