//! Taking away what installations have made, and putting back what they replaced.

use std::fs;
use std::path::{Path, PathBuf};

use super::Say;
use super::error::{Error, Result};
use super::files::{self, State};
use super::interrupt::Interrupts;
use super::lock::lock;
use super::manifest::Manifest;

/// Removes from a directory, and from wherever else its manifest names, what is as an installation left it; false when
/// there is no manifest.
///
/// # Errors
/// What stood in the way; a second run goes on from there.
pub fn remove(bin: &Path, dry_run: bool, say: Say) -> Result<bool> {
    if !bin.is_dir() {
        return Ok(false);
    }
    let interrupts = Interrupts::hold();
    let _lock = match dry_run {
        true => None,
        false => lock(bin, &interrupts)?,
    };
    drop(interrupts);
    remove_all(bin, dry_run, say)
}

/// The same for one that has the lock.
///
/// # Errors
/// As above.
pub fn remove_all(bin: &Path, dry_run: bool, say: Say) -> Result<bool> {
    let manifest = Manifest::read(bin)?;
    if !dry_run {
        files::sweep(manifest.path());
    }
    if !manifest.is_there() {
        return Ok(false);
    }
    for path in manifest.made() {
        if !dry_run {
            files::sweep(path);
            files::sweep(&files::kept(path));
        }
        if let Some(deed) = Deed::for_path(path, &manifest)? {
            deed.act(dry_run, say)?;
        }
    }
    Deed::Remove(manifest.path().to_owned()).act(dry_run, say)?;
    if !dry_run {
        files::drop_dirs(manifest.dirs());
    }
    Ok(true)
}

/// What is to be done about one path.
enum Deed {
    /// It is as we left it.
    Remove(PathBuf),
    /// So it is, and another's file was there before.
    PutBack { path: PathBuf, kept: PathBuf },
    /// It is not as we left it.
    Leave {
        path: PathBuf,
        kept: Option<PathBuf>,
    },
}

impl Deed {
    fn for_path(path: &Path, manifest: &Manifest) -> Result<Option<Self>> {
        let now = State::of(path)?;
        let path = path.to_owned();
        let kept = files::kept(&path);
        let is_kept = manifest.has_saved(&path) && State::of(&kept)? != State::Absent;
        let kept = is_kept.then_some(kept);
        Ok(match kept {
            // A run was killed between keeping it and taking its name.
            Some(kept) if files::is_same(&path, &kept) => Some(Self::Remove(kept)),
            kept if now != State::Absent && !manifest.knows(&now, &path) => {
                Some(Self::Leave { path, kept })
            }
            Some(kept) => Some(Self::PutBack { path, kept }),
            None => (now != State::Absent).then_some(Self::Remove(path)),
        })
    }

    fn act(&self, dry_run: bool, say: Say) -> Result<()> {
        let would = if dry_run { "would have " } else { "" };
        match self {
            Self::Remove(path) => {
                if !dry_run {
                    files::remove(path)?;
                }
                say(&format!("{would}removed {}", path.display()));
            }
            Self::PutBack { path, kept } => {
                if !dry_run {
                    fs::rename(kept, path).map_err(Error::file("write", path))?;
                }
                say(&format!("{would}put back {}", path.display()));
            }
            Self::Leave { path, kept } => {
                let kept = kept
                    .as_ref()
                    .map(|kept| format!(", and so {}", kept.display()));
                say(&format!(
                    "left alone: {} was changed since it was installed{}",
                    path.display(),
                    kept.unwrap_or_default()
                ));
            }
        }
        Ok(())
    }
}
