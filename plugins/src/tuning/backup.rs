//! What a pod's settings were before: a file for each attachment, in the reference's place and form, so that
//! either puts back what the other has changed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use cni::{Attachment, Code, Error, Result, files};
use serde::{Deserialize, Serialize};

use super::sysctls;
use crate::error::Failures;

/// Settings as they were; what is `None` was not changed. The reference's keys, and behind them ours.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Backup {
    /// Hardware address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Promiscuous mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promisc: Option<bool>,
    /// MTU of the pod's end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Whether all multicast was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allmulti: Option<bool>,
    /// Packets in the queue.
    #[serde(rename = "txQLen", skip_serializing_if = "Option::is_none")]
    pub tx_q_len: Option<u32>,
    /// The host's end, if its MTU was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_end: Option<HostEnd>,
    /// Kernel settings, by their path below `/proc/sys`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl: BTreeMap<String, String>,
    /// Whose it is: GC knows it by this.
    network: String,
    #[serde(rename = "containerID")]
    container_id: String,
    ifname: String,
}

/// A link in the host's namespace, found again without the pod's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HostEnd {
    /// Its name.
    pub name: String,
    /// Its number.
    pub index: u32,
    /// Its MTU as it was.
    pub mtu: u32,
}

impl Backup {
    /// One in which nothing is changed yet.
    pub fn new(network: &str, attachment: &Attachment) -> Self {
        Self {
            network: network.to_owned(),
            container_id: attachment.container_id.clone(),
            ifname: attachment.ifname.clone(),
            ..Self::default()
        }
    }

    /// The attachment's file; `None` when there is none, or when a power loss has left it without content.
    ///
    /// # Errors
    /// Code 5 when it cannot be read.
    pub fn load(dir: &Path, attachment: &Attachment) -> Result<Option<Self>> {
        let path = path(dir, attachment);
        match fs::read(&path) {
            Ok(bytes) => Ok(Self::parse(&bytes)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(failed("read", &path, &error)),
        }
    }

    /// What a file holds. Of settings only those that ADD can have changed: whoever may write the file must not be able to set
    /// others, which are the host's.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut backup: Self = serde_json::from_slice(bytes).ok()?;
        backup.sysctl.retain(|path, _| sysctls::is_of_a_pod(path));
        Some(backup)
    }

    /// Writes the attachment's file: all of it, or none.
    ///
    /// # Errors
    /// Code 5 when it cannot be written.
    pub fn save(&self, dir: &Path, attachment: &Attachment) -> Result<()> {
        let path = path(dir, attachment);
        files::check_way(dir).map_err(|error| failed("write", &path, &error))?;
        fs::create_dir_all(dir).map_err(|error| failed("create", dir, &error))?;
        let bytes = serde_json::to_vec(self)
            .map_err(|error| failed("write", &path, &io::Error::other(error)))?;
        // Another name until it is whole; hidden from readers, which look for .json.
        let temporary = unfinished(&path);
        let written = files::create(&temporary, 0o600)
            .and_then(|mut file| file.write_all(&bytes))
            .and_then(|()| fs::rename(&temporary, &path));
        written.map_err(|error| {
            let _ = fs::remove_file(&temporary);
            failed("write", &path, &error)
        })
    }

    /// Removes the attachment's file, if there is one, and what is left of one that was never finished.
    ///
    /// # Errors
    /// Code 5 when it cannot be removed.
    pub fn forget(dir: &Path, attachment: &Attachment) -> Result<()> {
        let path = path(dir, attachment);
        remove(&unfinished(&path)).and_then(|()| remove(&path))
    }

    /// Removes the files of this network's attachments that are not valid. The reference's do not say whose they
    /// are, and are left alone.
    ///
    /// # Errors
    /// Code 5 when one cannot be read or removed.
    pub fn collect(dir: &Path, network: &str, valid: &[Attachment]) -> Result<()> {
        let files = match fs::read_dir(dir) {
            Ok(files) => files,
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => return Err(failed("read", dir, &error)),
        };
        let mut failures = Failures::default();
        for file in files {
            let path = file
                .map(|file| file.path())
                .map_err(|error| failed("read", dir, &error));
            failures.note(path.and_then(|path| collect_one(&path, network, valid)));
        }
        failures.into_result()
    }
}

fn collect_one(path: &Path, network: &str, valid: &[Attachment]) -> Result<()> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if is_gone(&error) || error.kind() == io::ErrorKind::IsADirectory => {
            return Ok(());
        }
        Err(error) => return Err(failed("read", path, &error)),
    };
    let is_stale = |backup: Backup| {
        let is_its = |attachment: &Attachment| {
            attachment.container_id == backup.container_id && attachment.ifname == backup.ifname
        };
        backup.network == network && !valid.iter().any(is_its)
    };
    match Backup::parse(&bytes).is_some_and(is_stale) {
        true => remove(path),
        false => Ok(()),
    }
}

fn path(dir: &Path, attachment: &Attachment) -> PathBuf {
    let Attachment {
        container_id,
        ifname,
    } = attachment;
    dir.join(format!("{container_id}_{ifname}.json"))
}

/// Where a file is while it is being written.
fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("new")
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if !is_gone(&error) => Err(failed("remove", path, &error)),
        _ => Ok(()),
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn failed(verb: &str, path: &Path, error: &io::Error) -> Error {
    Error::new(
        Code::Io,
        format!("cannot {verb} {}: {error}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: &str = r#"{"mac":"02:00:00:00:00:01","promisc":true,"mtu":1500,"txQLen":1000,"hostEnd":{"name":"veth1","index":7,"mtu":1500},"sysctl":{"net/ipv4/conf/eth0/proxy_arp":"0"},"network":"lab","containerID":"c1","ifname":"eth0"}"#;

    /// No setting but a pod's comes out of a file, and what does is written as it was read.
    fn file(bytes: &[u8]) {
        if let Some(backup) = Backup::parse(bytes) {
            assert!(
                backup
                    .sysctl
                    .keys()
                    .all(|path| path.starts_with("net/") && !path.contains(".."))
            );
            let again = serde_json::to_vec(&backup).unwrap();
            let reread = Backup::parse(&again).unwrap();
            assert_eq!(serde_json::to_vec(&reread).unwrap(), again);
        }
    }

    #[test]
    fn a_setting_of_the_hosts_is_not_put_back() {
        for path in [
            "kernel/core_pattern",
            "net/../kernel/core_pattern",
            "/etc/passwd",
            "net/",
        ] {
            let planted = FILE.replace("net/ipv4/conf/eth0/proxy_arp", path);
            assert!(
                Backup::parse(planted.as_bytes()).unwrap().sysctl.is_empty(),
                "{path}"
            );
        }
        assert_eq!(Backup::parse(FILE.as_bytes()).unwrap().sysctl.len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn any_file(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            file(&bytes);
        }

        #[test]
        fn almost_a_file(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)) {
            let mut bytes = FILE.as_bytes().to_vec();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            file(&bytes);
        }
    }
}
