//! A container image made of one static program, written without a registry or a builder.
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::Result;

/// Writes an OCI image archive (image-spec v1, image-layout.md) called `name` in which `program`, a static multi-call
/// executable, answers to each of `links` in `/bin`.
pub fn archive(file: &Path, name: &str, program: &Path, links: &[&str]) -> Result {
    let program = std::fs::read(program).with_context(|| format!("{}", program.display()))?;
    let layer = layer(&program, links)?;
    let config = json!({
        "architecture": architecture(), "os": "linux",
        "config": {"Entrypoint": ["/bin/sleep", "86400"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    let mut entry = descriptor(MANIFEST, &manifest);
    // containerd names the image by the first, podman by the second.
    entry["annotations"] =
        json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();

    let mut archive = Builder::new(std::fs::File::create(file)?);
    put(
        &mut archive,
        "oci-layout",
        br#"{"imageLayoutVersion":"1.0.0"}"#,
        0o644,
    )?;
    put(&mut archive, "index.json", index.as_bytes(), 0o644)?;
    for blob in [layer, config, manifest] {
        let path = format!("blobs/{}", digest(&blob).replace(':', "/"));
        put(&mut archive, &path, &blob, 0o644)?;
    }
    archive.finish().context("the image archive")
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn layer(program: &[u8], links: &[&str]) -> Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    for dir in ["bin", "etc", "tmp", "proc", "sys", "dev", "root"] {
        let mut header = header(EntryType::Directory, 0, 0o755);
        layer.append_data(&mut header, dir, std::io::empty())?;
    }
    put(&mut layer, "bin/program", program, 0o755)?;
    for link in links {
        let mut header = header(EntryType::Symlink, 0, 0o777);
        layer.append_link(&mut header, format!("bin/{link}"), "program")?;
    }
    put(
        &mut layer,
        "etc/passwd",
        b"root:x:0:0:root:/root:/bin/sh\n",
        0o644,
    )?;
    put(&mut layer, "etc/group", b"root:x:0:\n", 0o644)?;
    Ok(layer.into_inner()?)
}

fn put(archive: &mut Builder<impl std::io::Write>, path: &str, bytes: &[u8], mode: u32) -> Result {
    let mut header = header(EntryType::Regular, bytes.len() as u64, mode);
    archive
        .append_data(&mut header, path, bytes)
        .with_context(|| path.to_owned())
}

fn header(kind: EntryType, size: u64, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(blob), "size": blob.len()})
}

fn digest(blob: &[u8]) -> String {
    let digest = Sha256::digest(blob);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The machine's architecture as images name it (Go's GOARCH).
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
