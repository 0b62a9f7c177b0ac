//! The plan: what it takes that a place holds what it should, without taking anything from anybody.

use std::path::{Path, PathBuf};

use super::Say;
use super::error::{Error, Result};
use super::files::{self, Content, Staged, State};
use super::manifest::{Line, Manifest};
use super::program;

/// What a path should hold.
#[derive(Clone, Debug)]
pub enum Wanted<'a> {
    /// A file.
    File {
        /// Its content.
        bytes: &'a [u8],
        /// SHA-256 of that, in hex.
        sum: String,
        /// Its mode.
        mode: u32,
    },
    /// A symbolic link to this.
    Link(&'static str),
}

impl<'a> Wanted<'a> {
    /// A file of these bytes and this mode.
    pub fn file(bytes: &'a [u8], mode: u32) -> Self {
        let sum = files::sum(bytes);
        Self::File { bytes, sum, mode }
    }

    fn content(&self) -> Content {
        match self {
            Self::File { sum, .. } => Content::File(sum.clone()),
            Self::Link(target) => Content::Link((*target).to_owned()),
        }
    }
}

/// One change.
#[derive(Debug)]
pub enum Step<'a> {
    /// What another has at this path gets a second name.
    Keep(&'a Path),
    /// The path gets what it should hold.
    Make(&'a Path, &'a Wanted<'a>),
}

impl Step<'_> {
    /// The name that it gives.
    pub fn target(&self) -> PathBuf {
        match self {
            Self::Keep(path) => files::kept(path),
            Self::Make(path, _) => (*path).to_owned(),
        }
    }

    /// Its line in the manifest.
    pub fn line(&self) -> Line {
        match self {
            Self::Keep(path) => Line::Saved((*path).to_owned()),
            Self::Make(path, wanted) => Line::Made(wanted.content(), (*path).to_owned()),
        }
    }

    /// What is said about it when it is done.
    pub fn words(&self) -> String {
        let target = self.target();
        match self {
            Self::Keep(path) => format!("kept {} as {}", path.display(), target.display()),
            Self::Make(_, Wanted::Link(_)) => format!("linked {}", target.display()),
            Self::Make(_, Wanted::File { .. }) => format!("installed {}", target.display()),
        }
    }

    /// Makes it, under a temporary name.
    pub fn stage(&self) -> Result<Staged> {
        let target = self.target();
        match self {
            Self::Keep(path) => Staged::second_name(&target, path),
            Self::Make(_, Wanted::Link(to)) => Staged::link(&target, to),
            Self::Make(_, Wanted::File { bytes, mode, .. }) => Staged::file(&target, bytes, *mode),
        }
    }
}

/// The steps to what is wanted, in their order. Names that others have are left alone unless they may be replaced, and
/// that is said.
///
/// # Errors
/// When the executable's own name is another's, or what would be replaced cannot be kept.
pub fn plan<'a>(
    wanted: &'a [(PathBuf, Wanted<'a>)],
    manifest: &Manifest,
    replace: bool,
    say: Say,
) -> Result<Vec<Step<'a>>> {
    let mut steps = Vec::new();
    for (path, wanted) in wanted {
        let now = State::of(path)?;
        if now == State::There(wanted.content()) {
            continue;
        }
        if now != State::Absent && !manifest.knows(&now, path) {
            if !replace || now == State::Other {
                if path.ends_with(program::NAME) {
                    return Err(Error::Foreign(path.clone()));
                }
                say(&format!(
                    "left alone: {} is another's (--replace takes the name over)",
                    path.display()
                ));
                continue;
            }
            let kept = files::kept(path);
            if State::of(&kept)? != State::Absent && !manifest.has_saved(path) {
                let path = path.clone();
                return Err(Error::KeptIsTaken { path, kept });
            }
            steps.push(Step::Keep(path));
        }
        steps.push(Step::Make(path, wanted));
    }
    Ok(steps)
}
