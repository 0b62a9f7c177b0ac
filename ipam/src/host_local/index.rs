//! The index of leases by owner: which addresses a container has, in one `readlink(2)`.
//!
//! It stands in a directory of its own beside those of the networks, one symbolic link for each owner,
//! whose target is the boot in which the addresses were taken, and the addresses. It is a cache, exact
//! also when the reference plugin works on the same leases: after each change of ours both directories
//! get one and the same time of modification, with nanoseconds that stand for the boot. Whoever
//! else adds or removes a lease gives the lease directory another, and so does a change of ours that was cut
//! off in the middle, or lost its writes with the power; then the index is made anew from the leases.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use cni::identity;

use super::lease::{Lease, Owner};

/// The kernel's name for this boot; no namespace hides it, no clock moves it.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The open index of one network.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    directory: File,
    boot: String,
    /// The nanoseconds of a sealed directory. Two directories changed in one tick of the kernel's clock have the same time
    /// as well, but not this one; nor have two that an earlier boot has sealed, whose last changes may have been lost.
    seal: u32,
}

/// What the index says of one owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The boot in which the addresses were taken, or were first seen.
    pub boot: String,
    /// The addresses.
    pub addresses: Vec<IpAddr>,
}

impl Index {
    /// Opens the index at `path`, making it if need be.
    ///
    /// # Errors
    /// When the directory cannot be made, or the boot id cannot be read.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let boot = boot_id()?;
        let directory = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(&path)?;
                File::open(&path)?
            }
            opened => opened?,
        };
        let seal = seal_of(&boot);
        Ok(Self {
            path,
            directory,
            boot,
            seal,
        })
    }

    /// Whether nobody has changed the leases since the last [`Index::seal`], which was in this boot.
    ///
    /// # Errors
    /// When a directory cannot be looked at.
    pub fn is_exact(&self, leases: &File) -> io::Result<bool> {
        let sealed = self.directory.metadata()?;
        Ok(sealed.mtime_nsec() == i64::from(self.seal)
            && sealed.modified()? == leases.metadata()?.modified()?)
    }

    /// Declares that index and leases agree. On a file system that cannot keep nanoseconds they never do, and the
    /// index is made anew each time.
    ///
    /// # Errors
    /// When a time cannot be set.
    pub fn seal(&self, leases: &File) -> io::Result<()> {
        let changed = leases.metadata()?.modified()?;
        let changed = changed.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seal = UNIX_EPOCH + Duration::new(changed.as_secs(), self.seal);
        leases.set_modified(seal)?;
        self.directory.set_modified(seal)
    }

    /// What `owner` has.
    ///
    /// # Errors
    /// When the entry cannot be read.
    pub fn get(&self, owner: &Owner) -> io::Result<Option<Entry>> {
        match fs::read_link(self.entry(owner)) {
            Ok(target) => Ok(Entry::parse(&target)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Notes down, for this boot, what `owner` has.
    ///
    /// # Errors
    /// When there is no room for the entry.
    pub fn put(&self, owner: &Owner, mut addresses: Vec<IpAddr>) -> io::Result<()> {
        addresses.sort();
        self.write(
            owner,
            &Entry {
                boot: self.boot.clone(),
                addresses,
            },
        )
    }

    /// Forgets `owner`.
    ///
    /// # Errors
    /// When the entry cannot be removed.
    pub fn remove(&self, owner: &Owner) -> io::Result<()> {
        remove_if_there(&self.entry(owner))
    }

    /// Whether what `owner` has was taken before this boot, so that its pod cannot live any more. An owner
    /// that the index does not know counts as living.
    ///
    /// # Errors
    /// When the entry cannot be read.
    pub fn is_from_earlier_boot(&self, owner: &Owner) -> io::Result<bool> {
        Ok(self
            .get(owner)?
            .is_some_and(|entry| entry.boot != self.boot))
    }

    /// Makes the index anew from all leases. What it knew of an owner's boot it keeps; owners that it did
    /// not know are taken to be of this boot, which errs on the side of the living.
    ///
    /// # Errors
    /// When an entry cannot be read or written.
    pub fn rebuild(&self, leases: &[Lease]) -> io::Result<()> {
        let mut wanted: HashMap<&Owner, Vec<IpAddr>> = HashMap::new();
        for lease in leases {
            if let Some(owner) = &lease.owner {
                wanted.entry(owner).or_default().push(lease.address);
            }
        }
        let mut unknown: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            unknown.push(entry?.path());
        }
        for (owner, mut addresses) in wanted {
            addresses.sort();
            unknown.retain(|path| *path != self.entry(owner));
            let known = self.get(owner)?;
            let boot = known
                .as_ref()
                .map_or(&self.boot, |entry| &entry.boot)
                .clone();
            let entry = Entry { boot, addresses };
            if known.as_ref() != Some(&entry) {
                self.write(owner, &entry)?;
            }
        }
        unknown.iter().try_for_each(|path| remove_if_there(path))
    }

    fn entry(&self, owner: &Owner) -> PathBuf {
        let Owner(attachment) = owner;
        self.path.join(identity::digest(
            &format!("{}\n{}", attachment.container_id, attachment.ifname),
            32,
        ))
    }

    fn write(&self, owner: &Owner, entry: &Entry) -> io::Result<()> {
        let path = self.entry(owner);
        match symlink(entry.to_string(), &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                remove_if_there(&path)?;
                symlink(entry.to_string(), path)
            }
            outcome => outcome,
        }
    }
}

/// One read gives all of it; the standard library would ask three times.
fn boot_id() -> io::Result<String> {
    let mut text = [0; 64];
    let length = File::open(BOOT_ID)?.read(&mut text)?;
    Ok(String::from_utf8_lossy(&text[..length]).trim().to_owned())
}

/// Nanoseconds for a boot, never a round number, which a coarse clock might give.
fn seal_of(boot: &str) -> u32 {
    let digest = u32::from_str_radix(&identity::digest(boot, 7), 16).unwrap_or_default();
    digest / 10 * 10 + 9
}

impl Entry {
    pub(super) fn parse(target: &Path) -> Option<Self> {
        let (boot, addresses) = target.to_str()?.split_once(' ')?;
        let addresses = addresses
            .split(',')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .ok()?;
        Some(Self {
            boot: boot.to_owned(),
            addresses,
        })
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let addresses: Vec<String> = self.addresses.iter().map(IpAddr::to_string).collect();
        write!(f, "{} {}", self.boot, addresses.join(","))
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
