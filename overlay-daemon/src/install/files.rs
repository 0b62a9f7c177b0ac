//! Files: what is there, and making what shall be there so that it is whole whenever it has its name.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rand::TryRng;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};

use super::error::{Error, Result};

/// What has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    Absent,
    /// A file or a link.
    There(Content),
    /// A directory, a device, …
    Other,
}

/// What a file or a link says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// A file, by the SHA-256 of its bytes in hex.
    File(String),
    /// A symbolic link, by its target.
    Link(String),
}

impl State {
    /// What has this name now.
    pub fn of(path: &Path) -> Result<Self> {
        let failed = |error| Error::file("read", path)(error);
        let kind = match path.symlink_metadata() {
            Ok(meta) => meta.file_type(),
            Err(error) if is_nothing(&error) => return Ok(Self::Absent),
            Err(error) => return Err(failed(error)),
        };
        Ok(if kind.is_symlink() {
            let target = fs::read_link(path).map_err(failed)?;
            Self::There(Content::Link(target.to_string_lossy().into_owned()))
        } else if kind.is_file() {
            Self::There(Content::File(sum_of_file(path).map_err(failed)?))
        } else {
            Self::Other
        })
    }
}

/// SHA-256 in hex.
pub fn sum(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn sum_of_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&digest.finalize())),
            read => digest.update(&buffer[..read]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Whether both names are of one and the same file.
pub fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| path.symlink_metadata().map(|meta| (meta.dev(), meta.ino()));
    matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
}

/// Something that was made for a name, under another one beside it. It is gone when this is dropped.
#[derive(Debug)]
pub struct Staged {
    path: PathBuf,
    temporary: PathBuf,
}

impl Staged {
    /// A file; on the disk, with its mode, before anything has its name.
    pub fn file(path: &Path, bytes: &[u8], mode: u32) -> Result<Self> {
        Self::new(path, |temporary| {
            let mut file = File::create_new(temporary)?;
            file.write_all(bytes)?;
            file.set_permissions(Permissions::from_mode(mode))?;
            file.sync_all()
        })
    }

    /// A symbolic link.
    pub fn link(path: &Path, target: &str) -> Result<Self> {
        Self::new(path, |temporary| symlink(target, temporary))
    }

    /// A second name for what is at `other`.
    pub fn second_name(path: &Path, other: &Path) -> Result<Self> {
        Self::new(path, |temporary| fs::hard_link(other, temporary))
    }

    fn new(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> Result<Self> {
        let number = SysRng.try_next_u64();
        let number = number.map_err(|error| Error::file("write", path)(io::Error::other(error)))?;
        let temporary = path.with_file_name(format!("{}{number}", prefix(path)));
        // From here on, so that half of one goes as well.
        let staged = Self {
            path: path.to_owned(),
            temporary,
        };
        make(&staged.temporary).map_err(Error::file("write", path))?;
        Ok(staged)
    }

    /// Gives it its name. Of two names of one file `rename(2)` removes neither, so that the drop has something to do.
    pub fn publish(self) -> Result<()> {
        fs::rename(&self.temporary, &self.path).map_err(Error::file("write", &self.path))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        fs::remove_file(&self.temporary).ok();
    }
}

/// What the temporary names for a path begin with; digits follow. No runtime takes such a name for a configuration.
fn prefix(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    format!(".{}.heddle-", name.to_string_lossy())
}

/// Removes what a killed run has left beside a path.
pub fn sweep(path: &Path) {
    let prefix = prefix(path);
    let siblings = path.parent().map(fs::read_dir).into_iter().flatten();
    for sibling in siblings.flatten().flatten() {
        let name = sibling.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(&prefix));
        if number.is_some_and(|number| number.starts_with(|first: char| first.is_ascii_digit())) {
            fs::remove_file(sibling.path()).ok();
        }
    }
}

/// Brings a directory's names to the disk.
pub fn sync_dir(dir: &Path) -> Result<()> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(Error::file("write", dir))
}

/// Makes a directory with its parents, and adds to `made` those that are new, parents first.
pub fn make_dir(dir: &Path, made: &mut Vec<PathBuf>) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        make_dir(parent, made)?;
    }
    match DirBuilder::new().create(dir) {
        Ok(()) => made.push(dir.to_owned()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && dir.is_dir() => return Ok(()),
        Err(error) => return Err(Error::file("create", dir)(error)),
    }
    fs::set_permissions(dir, Permissions::from_mode(0o755)).map_err(Error::file("create", dir))
}

/// Removes those of these directories that are empty, children first.
pub fn drop_dirs(dirs: impl IntoIterator<Item = PathBuf>) {
    let mut dirs: Vec<_> = dirs.into_iter().collect();
    dirs.sort();
    for dir in dirs.iter().rev() {
        fs::remove_dir(dir).ok();
    }
}

/// Removes a file; that it is gone already is as good.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if !is_nothing(&error) => Err(Error::file("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Where a file of another is kept while ours has its name.
pub fn kept(path: &Path) -> PathBuf {
    let mut kept = path.as_os_str().to_owned();
    kept.push(".before-heddle");
    kept.into()
}
