//! Container images written without a registry or a builder: an OCI archive with one layer.
mod heddle;

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

pub use heddle::{HEDDLE, heddle};

use crate::Result;

/// What is in an image, and what it starts. The same content gives the same bytes.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// The program with its arguments.
    pub entrypoint: Vec<String>,
    /// Its environment, as `KEY=value`.
    pub environment: Vec<String>,
    /// What people ask an image, by the keys of the image specification's annotations.
    pub labels: Vec<(&'static str, String)>,
    /// Directories, each after the one it is in.
    pub directories: Vec<String>,
    /// Files with their content and mode.
    pub files: Vec<(String, Vec<u8>, u32)>,
    /// Symbolic links with their targets.
    pub links: Vec<(String, String)>,
}

impl Image {
    /// Writes it as an OCI image archive (image-spec v1, image-layout.md) called `name`.
    pub fn write(&self, file: &Path, name: &str) -> Result {
        let layer = self.layer()?;
        let labels: serde_json::Map<String, Value> = self
            .labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.as_str().into()))
            .collect();
        let config = json!({
            "architecture": architecture(), "os": "linux",
            "config": {"Entrypoint": self.entrypoint, "Env": self.environment, "Labels": labels},
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

    fn layer(&self) -> Result<Vec<u8>> {
        let mut layer = Builder::new(Vec::new());
        for dir in &self.directories {
            let mut header = header(EntryType::Directory, 0, 0o755);
            layer.append_data(&mut header, dir, std::io::empty())?;
        }
        for (path, bytes, mode) in &self.files {
            put(&mut layer, path, bytes, *mode)?;
        }
        for (path, target) in &self.links {
            let mut header = header(EntryType::Symlink, 0, 0o777);
            layer.append_link(&mut header, path, target)?;
        }
        Ok(layer.into_inner()?)
    }
}

/// Writes an image archive called `name` in which `program`, a static multi-call executable, answers to each of `links` in
/// `/bin`.
pub fn archive(file: &Path, name: &str, program: &Path, links: &[&str]) -> Result {
    let program = std::fs::read(program).with_context(|| format!("{}", program.display()))?;
    let passwd = b"root:x:0:0:root:/root:/bin/sh\n".to_vec();
    let image = Image {
        entrypoint: vec!["/bin/sleep".to_owned(), "86400".to_owned()],
        environment: vec!["PATH=/bin".to_owned()],
        directories: ["bin", "etc", "tmp", "proc", "sys", "dev", "root"]
            .map(str::to_owned)
            .into(),
        files: vec![
            ("bin/program".to_owned(), program, 0o755),
            ("etc/passwd".to_owned(), passwd, 0o644),
            ("etc/group".to_owned(), b"root:x:0:\n".to_vec(), 0o644),
        ],
        links: links
            .iter()
            .map(|link| (format!("bin/{link}"), "program".to_owned()))
            .collect(),
        ..Image::default()
    };
    image.write(file, name)
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

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
