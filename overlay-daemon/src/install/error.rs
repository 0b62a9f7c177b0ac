//! Why an installation failed, and what may help.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Result of everything that installs.
pub type Result<T> = std::result::Result<T, Error>;

/// Why it failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read, made or removed.
    #[error("cannot {verb} {}: {source}: {}", .path.display(), remedy(.source))]
    File {
        /// What was to be done to it.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// There is no executable to be installed.
    #[error("{} is not there: run `make build`, or name the executable with --from", .0.display())]
    NoProgram(PathBuf),
    /// What is to be installed is something else, or for another machine.
    #[error(
        "{} does not run here ({why}): is it heddle-cni, built for {}?",
        .path.display(),
        std::env::consts::ARCH
    )]
    NotOurProgram {
        /// What is to be installed.
        path: PathBuf,
        /// What came of the attempt.
        why: String,
    },
    /// The executable's name is taken.
    #[error("{} is not from an installation: move it away, or use --replace", .0.display())]
    Foreign(PathBuf),
    /// What would be replaced cannot be kept.
    #[error(
        "{} is where --replace would keep {}: move it away",
        .kept.display(),
        .path.display()
    )]
    KeptIsTaken {
        /// What would be replaced.
        path: PathBuf,
        /// Where it would be kept.
        kept: PathBuf,
    },
    /// A runtime's configuration does not say where.
    #[error("{} is not TOML: {why}: mend it, or choose with --bin-dir and --conf-dir", .path.display())]
    NotToml {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        why: String,
    },
    /// A directory whose name the manifest could not hold.
    #[error("{0:?} has a name that is not text on one line: choose another directory")]
    BadName(PathBuf),
    /// Somebody else installs, for too long.
    #[error(
        "another installation in {} has not ended for a minute: look for a process that hangs",
        .0.display()
    )]
    Locked(PathBuf),
    /// It was told to end.
    #[error("ended by {0}; what was begun is taken back")]
    Interrupted(&'static str),
}

impl Error {
    /// For `map_err`: what was to be done to which file.
    pub fn file(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File {
            verb,
            path: path.to_owned(),
            source,
        }
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room there",
        ErrorKind::PermissionDenied => "run it as root, or choose with --bin-dir and --conf-dir",
        ErrorKind::ReadOnlyFilesystem => {
            "mount it for writing, or choose with --bin-dir and --conf-dir"
        }
        _ => "choose another place with --bin-dir and --conf-dir",
    }
}
