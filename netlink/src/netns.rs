//! Network namespaces: opening one by path, comparing two, doing something inside one.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::{fs, thread};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{getpid, gettid};

use crate::error::{Error, Result};

/// File system type of namespace files (`NSFS_MAGIC`, include/uapi/linux/magic.h).
const NSFS_MAGIC: FsType = FsType(0x6e73_6673);

/// An open network namespace; it lives at least as long as this.
#[derive(Debug)]
pub struct Netns(File);

impl Netns {
    /// Opens the namespace that `path` leads to, such as `/run/netns/x` or `/proc/42/ns/net`.
    ///
    /// # Errors
    /// [`Error::NotANetns`] when the path is missing or is a file of another kind, as the mount point
    /// of a namespace is after a reboot.
    pub fn open(path: &Path) -> Result<Self> {
        let wrong = |why| Error::NotANetns {
            path: path.to_owned(),
            why,
        };
        // A pipe would keep us waiting for somebody who writes to it.
        let open = File::options()
            .read(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(path);
        let file = open.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => wrong("there is no such file"),
            io::ErrorKind::NotADirectory => wrong("a part of the path is not a directory"),
            _ => Error::io(format!("open {}", path.display()))(error),
        })?;
        let stat = fstatfs(&file)
            .map_err(|errno| Error::io(format!("look at {}", path.display()))(errno.into()))?;
        match stat.filesystem_type() {
            NSFS_MAGIC => Ok(Self(file)),
            _ => Err(wrong("it is a file of another kind")),
        }
    }

    /// Makes a namespace that `path` leads to, with its directory. Equals `ip netns add`; undone by [`Netns::remove`].
    ///
    /// # Errors
    /// Without `CAP_SYS_ADMIN`, or when there is something at `path`.
    pub fn create(path: &Path) -> Result<Self> {
        let doing = |what: &str| Error::io(format!("{what} {}", path.display()));
        let directory = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(directory).map_err(doing("make the directory of"))?;
        File::create_new(path).map_err(doing("make"))?;
        // A thread of its own leaves its namespace; the caller stays where it is.
        let made = thread::scope(|scope| {
            let maker = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET)?;
                let none: Option<&str> = None;
                mount(
                    Some("/proc/thread-self/ns/net"),
                    path,
                    none,
                    MsFlags::MS_BIND,
                    none,
                )
            });
            maker.join().unwrap_or(Err(nix::errno::Errno::EINTR))
        });
        if let Err(errno) = made {
            fs::remove_file(path).ok();
            return Err(doing("make a network namespace at")(errno.into()));
        }
        Self::open(path)
    }

    /// Takes the name from a namespace, which goes when nobody is in it. Equals `ip netns delete`; one that is gone already
    /// is no error.
    ///
    /// # Errors
    /// When it cannot be unmounted or removed.
    pub fn remove(path: &Path) -> Result<()> {
        let doing = || Error::io(format!("remove {}", path.display()));
        match umount2(path, MntFlags::MNT_DETACH) {
            Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
            Err(errno) => return Err(doing()(errno.into())),
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(doing()(error)),
            _ => Ok(()),
        }
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// When `/proc` is not there.
    pub fn current() -> Result<Self> {
        // The shorter way where it is the same: the kernel makes each directory of it when somebody looks.
        let path = match gettid() == getpid() {
            true => "/proc/self/ns/net",
            false => "/proc/thread-self/ns/net",
        };
        File::open(path)
            .map(Self)
            .map_err(Error::io(format!("open {path}")))
    }

    /// Whether both are one and the same namespace.
    ///
    /// # Errors
    /// When a descriptor cannot be looked at.
    pub fn is_same(&self, other: &Self) -> Result<bool> {
        let identity = |netns: &Self| netns.0.metadata().map(|meta| (meta.dev(), meta.ino()));
        let same = || Ok(identity(self)? == identity(other)?);
        same().map_err(Error::io("compare network namespaces"))
    }

    /// Runs `inside` with the calling thread in this namespace, and comes back, also from a panic.
    /// A thread that could not come back would do the host's work in a pod, so the process is
    /// aborted then.
    ///
    /// # Errors
    /// When the namespace cannot be entered: `EPERM` without `CAP_SYS_ADMIN`, `EINVAL` when it is a
    /// namespace of another kind.
    pub fn run<T>(&self, inside: impl FnOnce() -> T) -> Result<T> {
        self.run_from(&Self::current()?, inside)
    }

    /// The same for a caller who has `home`, the namespace of the calling thread, open already.
    ///
    /// # Errors
    /// As [`Netns::run`].
    pub fn run_from<T>(&self, home: &Self, inside: impl FnOnce() -> T) -> Result<T> {
        let home = Home(home);
        setns(&self.0, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| Error::io("enter the network namespace")(errno.into()))?;
        let outcome = inside();
        drop(home);
        Ok(outcome)
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<File> for Netns {
    /// A file of `/proc/PID/ns` that is open already.
    fn from(file: File) -> Self {
        Self(file)
    }
}

/// The namespace to come back to.
struct Home<'a>(&'a Netns);

impl Drop for Home<'_> {
    fn drop(&mut self) {
        if setns(self.0, CloneFlags::CLONE_NEWNET).is_err() {
            std::process::abort();
        }
    }
}
