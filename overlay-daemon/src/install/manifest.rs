//! The manifest: what installations have made in a directory of plugins, so that it can be taken away, and nothing else.
//!
//! One line each: `file SHA256 PATH`, `link TARGET PATH`, `saved PATH` (it is `PATH.before-heddle` now), `dir PATH`. The
//! lines of earlier versions stay, which are ours as well.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::error::{Error, Result};
use super::files::{Content, Staged, State};
use super::program;

/// Its name in the directory.
pub const NAME: &str = ".heddle.manifest";

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Line {
    /// A file or a link that we made.
    Made(Content, PathBuf),
    /// A file of another that was there, and is kept.
    Saved(PathBuf),
    /// A directory that we made.
    Dir(PathBuf),
}

impl Line {
    fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(' ')?;
        let content = |kind: fn(String) -> Content| {
            let (what, path) = rest.split_once(' ')?;
            Some(Self::Made(kind(what.to_owned()), path.into()))
        };
        match kind {
            "file" => content(Content::File),
            "link" => content(Content::Link),
            "saved" => Some(Self::Saved(rest.into())),
            "dir" => Some(Self::Dir(rest.into())),
            _ => None,
        }
    }

    fn path(&mut self) -> &mut PathBuf {
        match self {
            Self::Made(_, path) | Self::Saved(path) | Self::Dir(path) => path,
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Made(Content::File(sum), path) => write!(f, "file {sum} {}", path.display()),
            Self::Made(Content::Link(to), path) => write!(f, "link {to} {}", path.display()),
            Self::Saved(path) => write!(f, "saved {}", path.display()),
            Self::Dir(path) => write!(f, "dir {}", path.display()),
        }
    }
}

/// The manifest of a directory.
#[derive(Debug)]
pub struct Manifest {
    path: PathBuf,
    is_there: bool,
    lines: BTreeSet<Line>,
}

impl Manifest {
    /// Reads it, if it is there.
    pub fn read(bin: &Path) -> Result<Self> {
        let path = bin.join(NAME);
        let (text, is_there) = match fs::read_to_string(&path) {
            Ok(text) => (text, true),
            Err(error) if error.kind() == ErrorKind::NotFound => (String::new(), false),
            Err(error) => return Err(Error::file("read", &path)(error)),
        };
        let mut lines: Vec<_> = text.lines().filter_map(Line::parse).collect();
        follow(&mut lines, bin);
        Ok(Self {
            path,
            is_there,
            lines: lines.into_iter().collect(),
        })
    }

    /// Its own path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it was there when it was read.
    pub fn is_there(&self) -> bool {
        self.is_there
    }

    /// Whether an installation left this in this state.
    pub fn knows(&self, state: &State, path: &Path) -> bool {
        match state {
            State::There(content) => {
                let line = Line::Made(content.clone(), path.to_owned());
                self.lines.contains(&line)
            }
            State::Absent | State::Other => false,
        }
    }

    /// Whether an installation kept what had this name.
    pub fn has_saved(&self, path: &Path) -> bool {
        self.lines.contains(&Line::Saved(path.to_owned()))
    }

    /// The files and links that installations have made.
    pub fn made(&self) -> BTreeSet<&Path> {
        let made = self.lines.iter().filter_map(|line| match line {
            Line::Made(_, path) => Some(path.as_path()),
            Line::Saved(_) | Line::Dir(_) => None,
        });
        made.collect()
    }

    /// The directories that installations have made.
    pub fn dirs(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.lines.iter().filter_map(|line| match line {
            Line::Dir(path) => Some(path.clone()),
            Line::Made(..) | Line::Saved(_) => None,
        })
    }

    /// Adds what is coming.
    pub fn extend(&mut self, lines: impl IntoIterator<Item = Line>) {
        self.lines.extend(lines);
    }

    /// Writes it.
    pub fn write(&self) -> Result<()> {
        let text: String = self.lines.iter().map(|line| format!("{line}\n")).collect();
        Staged::file(&self.path, text.as_bytes(), 0o644)?.publish()
    }
}

/// A directory may have another path here than where it was written, as in a container that it is mounted in. The line of
/// the executable, which is always beside the manifest, tells the path that it had.
fn follow(lines: &mut [Line], bin: &Path) {
    let homes: BTreeSet<PathBuf> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Made(Content::File(_), path) if path.ends_with(program::NAME) => path.parent(),
            _ => None,
        })
        .map(Path::to_owned)
        .collect();
    for path in lines.iter_mut().map(Line::path) {
        if path.parent().is_some_and(|parent| homes.contains(parent)) {
            *path = bin.join(path.file_name().unwrap_or_default());
        } else if homes.contains(path) {
            *path = bin.to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again_also_elsewhere() {
        let there = tempfile::tempdir().unwrap();
        let bin = there.path();
        let text = "dir /opt/cni\ndir /opt/cni/bin\nfile 12ab /etc/cni/net.d/10-heddle.conflist\n\
                    file 34cd /opt/cni/bin/heddle-cni\nlink heddle-cni /opt/cni/bin/a b\nsaved /opt/cni/bin/a b\nnonsense\n";
        fs::write(bin.join(NAME), text).unwrap();
        let manifest = Manifest::read(bin).unwrap();
        let link = State::There(Content::Link("heddle-cni".into()));
        assert!(manifest.is_there());
        assert!(manifest.knows(&link, &bin.join("a b")) && manifest.has_saved(&bin.join("a b")));
        assert!(!manifest.knows(&link, Path::new("/opt/cni/bin/a b")));
        let conf = Path::new("/etc/cni/net.d/10-heddle.conflist");
        assert!(manifest.knows(&State::There(Content::File("12ab".into())), conf));
        assert!(!manifest.knows(&State::There(Content::File("34cd".into())), conf));
        assert_eq!(
            manifest.dirs().collect::<Vec<_>>(),
            [PathBuf::from("/opt/cni"), bin.to_owned()]
        );

        manifest.write().unwrap();
        let written = fs::read_to_string(bin.join(NAME)).unwrap();
        let here = bin.display();
        for line in [format!("link heddle-cni {here}/a b"), format!("dir {here}")] {
            assert!(written.lines().any(|other| other == line), "{written}");
        }
    }
}
