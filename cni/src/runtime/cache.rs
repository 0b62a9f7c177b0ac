//! The cache of results: the same files as libcni's, so that either side may clean up after the other.
//!
//! `<cache dir>/results/<network>-<container id>-<ifname>`, mode 0600 in directories of mode 0700, holds one JSON object
//! of kind `cniCacheV1` (reference: `cachedInfo` in `libcni/api.go`). Unlike libcni's, a write is atomic and on the disk
//! before ADD returns: a power cut leaves no empty file.

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Conflist, RuntimeConf};
use crate::{AddResult, Attachment, Code, Error, Result, Version, files, fold, names};

const KIND: &str = "cniCacheV1";

/// One file; the order of the fields is that of libcni.
#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Entry {
    kind: String,
    container_id: String,
    /// The configuration list as it stood in its file, in base64.
    config: String,
    if_name: String,
    network_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    netns: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cni_args: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    capability_args: Map<String, Value>,
    result: Value,
}

/// Keeps the result of a whole ADD.
pub(super) fn write(
    cache_dir: &Path,
    list: &Conflist,
    rt: &RuntimeConf,
    result: &AddResult,
) -> Result<()> {
    let entry = Entry {
        kind: KIND.into(),
        container_id: rt.attachment.container_id.clone(),
        config: STANDARD.encode(&list.bytes),
        if_name: rt.attachment.ifname.clone(),
        network_name: list.name.clone(),
        netns: rt
            .netns
            .as_ref()
            .map(|netns| netns.to_string_lossy().into_owned())
            .unwrap_or_default(),
        cni_args: rt.args.clone(),
        capability_args: rt.capability_args.clone(),
        result: result.to_json(list.version)?,
    };
    let file = file(cache_dir, &list.name, &rt.attachment);
    serde_json::to_vec(&entry)
        .map_err(io::Error::from)
        .and_then(|bytes| replace(&file, &bytes))
        .map_err(|e| {
            Error::new(
                Code::Io,
                format!(
                    "failed to set network {:?} cached result: cannot write {}: {e}",
                    list.name,
                    file.display()
                ),
            )
        })
}

/// The result for one attachment, `None` if there is none; code 6 if it cannot be read. Before `cniCacheV1` the file
/// held the bare result.
pub(super) fn result(
    cache_dir: &Path,
    network: &str,
    attachment: &Attachment,
) -> Result<Option<AddResult>> {
    let file = file(cache_dir, network, attachment);
    let Ok(bytes) = fs::read(&file) else {
        return Ok(None);
    };
    result_in(&bytes).map(Some).map_err(|why| {
        Error::new(
            Code::Decode,
            format!(
                "failed to get network {network:?} cached result: {}: {why}",
                file.display()
            ),
        )
    })
}

/// The result that a file holds, or what is wrong with it.
pub(crate) fn result_in(bytes: &[u8]) -> std::result::Result<AddResult, String> {
    let doc: Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let result = match fold::read::<Entry>(&doc) {
        Ok(entry) if entry.kind == KIND => entry.result,
        _ => doc,
    };
    AddResult::from_json(&result, Version::V0_1_0).map_err(|e| e.to_string())
}

/// Forgets the result for one attachment.
pub(super) fn remove(cache_dir: &Path, network: &str, attachment: &Attachment) {
    // As in libcni, a leftover is no reason to fail a DEL: the next GC meets it again.
    let _ = fs::remove_file(file(cache_dir, network, attachment));
}

/// Every cached attachment to `network`, in the order of the file names. Files that cannot be read are passed over.
pub(super) fn attachments(cache_dir: &Path, network: &str) -> Vec<RuntimeConf> {
    let Ok(dir) = fs::read_dir(cache_dir.join("results")) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = dir.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
        .iter()
        .filter_map(|file| attachment_in(&fs::read(file).ok()?, network))
        .collect()
}

/// The attachment to `network` that a file holds.
pub(crate) fn attachment_in(bytes: &[u8], network: &str) -> Option<RuntimeConf> {
    let doc: Value = serde_json::from_slice(bytes).ok()?;
    let entry: Entry = fold::read(&doc).ok()?;
    // A name that is none could lead out of the directory.
    let ours = entry.kind == KIND
        && entry.network_name == network
        && names::container_id(&entry.container_id).is_ok()
        && names::interface(&entry.if_name).is_ok();
    ours.then(|| RuntimeConf {
        attachment: Attachment {
            container_id: entry.container_id,
            ifname: entry.if_name,
        },
        netns: Some(PathBuf::from(entry.netns)).filter(|n| !n.as_os_str().is_empty()),
        args: entry.cni_args,
        capability_args: entry.capability_args,
    })
}

pub(crate) fn file(cache_dir: &Path, network: &str, attachment: &Attachment) -> PathBuf {
    let Attachment {
        container_id,
        ifname,
    } = attachment;
    cache_dir
        .join("results")
        .join(format!("{network}-{container_id}-{ifname}"))
}

/// Puts `bytes` into `file` at once or not at all.
fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(dir) = file.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    // Neither a prefix nor a suffix of what another process writes, and no name that libcni would look for.
    let mut temporary = file.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", process::id()));
    let written = files::create(Path::new(&temporary), 0o600)
        .and_then(|mut out| out.write_all(bytes).and_then(|()| out.sync_all()))
        .and_then(|()| fs::rename(&temporary, file));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}
