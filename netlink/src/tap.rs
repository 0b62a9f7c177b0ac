//! TAP devices: links whose other end is a program, such as a virtual machine. They are made by `/dev/net/tun`, because
//! the kernel makes none over netlink.

use std::fs;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use tappers::Interface;

use crate::error::{Error, Result};

/// Where SELinux shows itself when it is on.
const SELINUX: &str = "/sys/fs/selinux/enforce";
/// The label of the calling thread.
const LABEL: &str = "/proc/thread-self/attr/current";

/// A TAP device to be made.
#[derive(Clone, Copy, Debug)]
pub struct Tap<'a> {
    /// Its name.
    pub name: &'a str,
    /// The user who may open it beside root; nobody else where neither this nor `group` is given.
    pub owner: Option<u32>,
    /// The group whose members may.
    pub group: Option<u32>,
    /// The SELinux label that it gets; without effect where SELinux is off.
    pub label: Option<&'a str>,
}

impl Tap<'_> {
    /// Makes the device in the calling thread's namespace, where it stays until it is deleted. Equals
    /// `ip tuntap add NAME mode tap user OWNER group GROUP`.
    ///
    /// # Errors
    /// [`Error::is_exists`] when there is a link of that name; [`Error::is_not_found`] when the kernel has no TAP
    /// devices.
    pub fn create(&self) -> Result<()> {
        match self.label.filter(|_| Path::new(SELINUX).exists()) {
            Some(label) => labelled(label, || self.make())?,
            None => self.make(),
        }
    }

    fn make(&self) -> Result<()> {
        let make = || -> io::Result<()> {
            let tap = tappers::linux::Tap::create_named(Interface::new(self.name)?)?;
            if let Some(owner) = self.owner {
                tap.set_owner(owner)?;
            }
            if let Some(group) = self.group {
                tap.set_group(group)?;
            }
            // Last, so that the kernel removes one that could not be finished.
            tap.set_persistent(true)
        };
        make().map_err(|source| match source.raw_os_error().map(Errno::from_raw) {
            // The name is taken: by another TAP device, or by a link of another kind (drivers/net/tun.c, `tun_set_iff`).
            Some(Errno::EBUSY | Errno::EINVAL) => Error::Kernel {
                verb: "create",
                object: format!("tap {}", self.name),
                errno: Errno::EEXIST,
                text: None,
            },
            _ => Error::io(format!("create tap {} by /dev/net/tun", self.name))(source),
        })
    }
}

/// Does something under another label, and returns to the own one.
fn labelled<T>(label: &str, make: impl FnOnce() -> T) -> Result<T> {
    let failed = || Error::io(format!("take on the SELinux label {label:?}"));
    let own = fs::read_to_string(LABEL).map_err(failed())?;
    fs::write(LABEL, label).map_err(failed())?;
    let made = make();
    fs::write(LABEL, own.trim_end_matches('\0')).map_err(failed())?;
    Ok(made)
}
