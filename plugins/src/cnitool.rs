//! `heddle-cni cnitool`: a runtime for people, with the environment, the cache and the container ids of `cnitool`.
//!
//! `NETCONFPATH` (default `/etc/cni/net.d`), `CNI_PATH`, `CAP_ARGS` (a JSON object), `CNI_ARGS`, `CNI_IFNAME` (default
//! `eth0`). Reference: `cnitool/cnitool.go` of github.com/containernetworking/cni.

use std::env;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use cni::runtime::{Conflist, Runtime, RuntimeConf};
use cni::{Attachment, Code, Error, Result};
use sha2::{Digest, Sha512};

const CONF_DIR: &str = "/etc/cni/net.d";
const CACHE_DIR: &str = "/var/lib/cni";

const USAGE: &str =
    "cnitool: Add, check, remove, gc or status network interfaces from a network namespace
  cnitool add    <net> <netns>
  cnitool check  <net> <netns>
  cnitool del    <net> <netns>
  cnitool gc     <net> <netns>
  cnitool status <net> <netns>
";

/// Does what `words`, the command line after `cnitool`, say.
pub fn run(words: &[String]) -> ExitCode {
    let done = match words {
        [verb, network, netns, ..] => carry_out(verb, network, netns).map_err(|e| format!("{e}\n")),
        _ => Err(USAGE.to_owned()),
    };
    let written = match &done {
        Ok(stdout) => io::stdout().write_all(stdout),
        Err(text) => io::stderr().write_all(text.as_bytes()),
    };
    if done.is_ok() && written.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Returns what is to be printed.
fn carry_out(verb: &str, network: &str, netns: &str) -> Result<Vec<u8>> {
    let conf_dir = env::var_os("NETCONFPATH").filter(|dir| !dir.is_empty());
    let list = Conflist::load_dir(
        Path::new(&conf_dir.unwrap_or_else(|| CONF_DIR.into())),
        network,
    )?;
    let runtime = Runtime {
        path: env::split_paths(&env::var_os("CNI_PATH").unwrap_or_default())
            .filter(|dir| !dir.as_os_str().is_empty())
            .collect(),
        cache_dir: CACHE_DIR.into(),
    };
    let netns = absolute(netns)?;
    let rt = RuntimeConf {
        attachment: Attachment {
            container_id: container_id(&netns),
            ifname: env::var("CNI_IFNAME").unwrap_or_else(|_| "eth0".into()),
        },
        netns: Some(netns),
        args: cni_args(&env::var("CNI_ARGS").unwrap_or_default())?,
        capability_args: match env::var("CAP_ARGS").unwrap_or_default().as_str() {
            "" => Default::default(),
            json => serde_json::from_str(json)
                .map_err(|e| invalid(format!("CAP_ARGS has to be a JSON object: {e}")))?,
        },
    };
    match verb {
        "add" => Ok(cni::pretty(
            &runtime.add(&list, &rt)?.to_json(list.version)?,
        )),
        "check" => runtime.check(&list, &rt).map(|()| Vec::new()),
        "del" => runtime.del(&list, &rt).map(|()| Vec::new()),
        "gc" => runtime.gc(&list, None).map(|()| Vec::new()),
        "status" => runtime.status(&list).map(|()| Vec::new()),
        other => Err(invalid(format!("unknown command {other:?}\n{USAGE}"))),
    }
}

/// The same path always makes the same container id, so that a `del` finds what the `add` has made.
fn container_id(netns: &Path) -> String {
    let digest = Sha512::digest(netns.as_os_str().as_encoded_bytes());
    digest
        .iter()
        .take(10)
        .fold("cnitool-".to_owned(), |mut id, byte| {
            let _ = write!(id, "{byte:02x}");
            id
        })
}

/// The path from the root on, cleaned by its letters alone: symbolic links are not followed.
fn absolute(path: &str) -> Result<PathBuf> {
    let path = std::path::absolute(path).map_err(|e| {
        Error::new(
            Code::Io,
            format!("cannot make {path:?} an absolute path: {e}"),
        )
    })?;
    Ok(path
        .components()
        .fold(PathBuf::new(), |mut clean, component| {
            match component {
                Component::ParentDir => {
                    clean.pop();
                }
                other => clean.push(other),
            }
            clean
        }))
}

/// `K=V;K=V`; unlike a plugin, cnitool wants something on both sides.
fn cni_args(raw: &str) -> Result<Vec<(String, String)>> {
    raw.split(';')
        .filter(|_| !raw.is_empty())
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) if !key.is_empty() && !value.is_empty() && !value.contains('=') => {
                Ok((key.to_owned(), value.to_owned()))
            }
            _ => Err(invalid(format!("invalid CNI_ARGS pair {pair:?}"))),
        })
        .collect()
}

fn invalid(msg: String) -> Error {
    Error::new(Code::InvalidEnvironment, msg)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn container_ids_are_those_of_cnitool() {
        // Taken from cnitool itself: printf %s /var/run/netns/testing | sha512sum
        let netns = absolute("/var/run/../run//netns/./testing/").unwrap();
        assert_eq!(netns, Path::new("/var/run/netns/testing"));
        assert_eq!(container_id(&netns), "cnitool-77383ca0a0715733ca6f");
    }

    #[test]
    fn arguments_need_both_sides() {
        assert_eq!(cni_args("").unwrap(), []);
        assert_eq!(
            cni_args("IP=10.0.0.1;A=b").unwrap(),
            [
                ("IP".to_owned(), "10.0.0.1".to_owned()),
                ("A".to_owned(), "b".to_owned())
            ]
        );
        for bad in ["IP", "IP=", "=x", "IP=a=b", "IP=a;"] {
            assert!(cni_args(bad).is_err(), "{bad}");
        }
    }
}
