//! A lease on disk: a file named by the address, which holds its owner as the reference plugin writes it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cni::Attachment;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::unistd::linkat;

/// Mode of a lease, as the reference plugin makes it.
const MODE: u32 = 0o600;

/// Who holds an address: container id and interface name. Writers of long ago left the interface out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner(pub Attachment);

/// An address that is given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: IpAddr,
    /// Who holds it; `None` for an empty file, which a power cut leaves behind.
    pub owner: Option<Owner>,
}

/// A lease with its content but without a name yet: it gets one by [`Draft::publish`], all at once, so
/// that nobody ever sees a lease that is half written.
#[derive(Debug)]
pub enum Draft {
    /// An unnamed file (`O_TMPFILE`).
    Unnamed(File),
    /// The content, for file systems that know no unnamed files.
    Content(Vec<u8>),
}

impl Owner {
    /// The owner of what was leased to `attachment` before interfaces were written down.
    pub fn without_interface(attachment: &Attachment) -> Self {
        Self(Attachment {
            container_id: attachment.container_id.clone(),
            ifname: String::new(),
        })
    }

    /// Whether one of `attachments` may hold what this owner holds.
    pub fn is_among(&self, attachments: &[Attachment]) -> bool {
        attachments.iter().any(|valid| {
            valid.container_id == self.0.container_id
                && (self.0.ifname.is_empty() || valid.ifname == self.0.ifname)
        })
    }

    pub(super) fn content(&self) -> Vec<u8> {
        format!("{}\r\n{}", self.0.container_id, self.0.ifname).into_bytes()
    }

    pub(super) fn parse(content: &str) -> Option<Self> {
        let content = content.trim();
        let (container_id, ifname) = content.split_once('\n').unwrap_or((content, ""));
        let attachment = Attachment {
            container_id: container_id.trim_end().to_owned(),
            ifname: ifname.to_owned(),
        };
        (!attachment.container_id.is_empty()).then_some(Self(attachment))
    }
}

/// The name of an address's file: dotted quads also for IPv4 addresses that were mapped into IPv6.
fn file_name(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

/// Where the lease of `address` is.
pub fn path(leases: &Path, address: IpAddr) -> PathBuf {
    leases.join(file_name(address))
}

/// The addresses that have a file, whoever holds them.
///
/// # Errors
/// When the directory cannot be read.
pub fn addresses(leases: &Path) -> io::Result<Vec<IpAddr>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(leases)? {
        let name = entry?.file_name();
        found.extend(name.to_str().and_then(|name| name.parse::<IpAddr>().ok()));
    }
    Ok(found)
}

/// All leases of a network, of which this is the directory.
///
/// # Errors
/// When they cannot be read.
pub fn all(leases: &Path) -> io::Result<Vec<Lease>> {
    let mut found = Vec::new();
    for address in addresses(leases)? {
        found.extend(read(leases, address)?);
    }
    Ok(found)
}

/// Reads the lease of `address`; `None` when there is none.
///
/// # Errors
/// When it cannot be read.
pub fn read(leases: &Path, address: IpAddr) -> io::Result<Option<Lease>> {
    match fs::read(path(leases, address)) {
        Ok(bytes) => Ok(Some(Lease {
            address,
            owner: Owner::parse(&String::from_utf8_lossy(&bytes)),
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Frees `address`; one that is free already is no error.
///
/// # Errors
/// When the file cannot be removed.
pub fn remove(leases: &Path, address: IpAddr) -> io::Result<()> {
    match fs::remove_file(path(leases, address)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Draft {
    /// Writes a lease for `owner` without a name.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn new(leases: &Path, owner: &Owner) -> io::Result<Self> {
        let unnamed = OpenOptions::new()
            .write(true)
            .mode(MODE)
            .custom_flags(OFlag::O_TMPFILE.bits())
            .open(leases);
        match unnamed {
            Ok(mut file) => file
                .write_all(&owner.content())
                .map(|()| Self::Unnamed(file)),
            // EOPNOTSUPP from the file system; EISDIR and EINVAL from kernels that know no unnamed files.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Unsupported
                        | io::ErrorKind::IsADirectory
                        | io::ErrorKind::InvalidInput
                ) =>
            {
                Ok(Self::Content(owner.content()))
            }
            Err(error) => Err(error),
        }
    }

    /// Gives the lease its name; false when the address is taken.
    ///
    /// # Errors
    /// When there is no room for the name.
    pub fn publish(&self, leases: &Path, address: IpAddr) -> io::Result<bool> {
        let path = path(leases, address);
        let done = match self {
            Self::Unnamed(file) => {
                // The short way is for those who may read any file (`CAP_DAC_READ_SEARCH`).
                let linked = match linkat(file, "", AT_FDCWD, &path, AtFlags::AT_EMPTY_PATH) {
                    Err(Errno::ENOENT) => linkat(
                        AT_FDCWD,
                        format!("/proc/self/fd/{}", file.as_raw_fd()).as_str(),
                        AT_FDCWD,
                        &path,
                        AtFlags::AT_SYMLINK_FOLLOW,
                    ),
                    outcome => outcome,
                };
                linked.map_err(io::Error::from)
            }
            Self::Content(content) => create(&path, content),
        };
        match done {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            done => done.map(|()| true),
        }
    }
}

fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(path)?;
    file.write_all(content).inspect_err(|_| {
        // Without its owner nobody would ever release it.
        let _ = fs::remove_file(path);
    })
}
