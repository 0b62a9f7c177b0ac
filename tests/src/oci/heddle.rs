//! Heddle's own image: the two programs and nothing else.
use std::path::Path;

use anyhow::{Context, bail};

use super::Image;
use crate::{Result, find};

/// The image's name in `conf/kubernetes`; nothing is pulled by it, a registry's name is put in its place.
pub const HEDDLE: &str = concat!("localhost/heddle:", env!("CARGO_PKG_VERSION"));

/// The image of `dist/` (or `$HEDDLE` and `$HEDDLE_CNI`).
pub fn heddle() -> Result<Image> {
    let mut image = Image {
        entrypoint: vec!["/heddle".to_owned()],
        labels: vec![
            ("org.opencontainers.image.title", "heddle".to_owned()),
            (
                "org.opencontainers.image.version",
                env!("CARGO_PKG_VERSION").to_owned(),
            ),
            ("org.opencontainers.image.licenses", "Apache-2.0".to_owned()),
        ],
        ..Image::default()
    };
    for (name, file) in [
        ("heddle", find::heddle()?),
        ("heddle-cni", find::heddle_cni()?),
    ] {
        let program = std::fs::read(&file).with_context(|| format!("{}", file.display()))?;
        require_static(&program, &file)?;
        image.files.push((name.to_owned(), program, 0o755));
    }
    let licence = std::fs::read(find::workspace().join("LICENSE")).context("LICENSE")?;
    image.files.push(("LICENSE".to_owned(), licence, 0o644));
    Ok(image)
}

/// Fails for an executable that asks for a loader (`PT_INTERP` of elf(5), 64 bits, little endian): there is none in the
/// image.
fn require_static(program: &[u8], file: &Path) -> Result {
    const PT_INTERP: usize = 3;
    let number = |at: usize, bytes: usize| -> usize {
        let bytes = program.get(at..at + bytes).unwrap_or_default();
        bytes
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    let (headers, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    if (0..count).any(|n| number(headers + n * size, 4) == PT_INTERP) {
        bail!(
            "{} is linked dynamically and cannot run in an image without a libc: take what `make build` makes",
            file.display()
        );
    }
    Ok(())
}
