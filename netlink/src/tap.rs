//! TAP devices: links whose other end is a program, such as a virtual machine. They are made by `/dev/net/tun`, because
//! the kernel makes none over netlink.

use std::fs;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use tun_rs::{DeviceBuilder, Layer};

use crate::error::{Error, Result};

/// What makes them, where the kernel can.
const MAKER: &str = "/dev/net/tun";
/// Where SELinux shows itself when it is on.
const SELINUX: &str = "/sys/fs/selinux/enforce";
/// The label of the calling thread.
const LABEL: &str = "/proc/thread-self/attr/current";

/// A TAP device to be made.
#[derive(Clone, Copy, Debug)]
pub struct Tap<'a> {
    /// Its name, which must be free: another TAP device of that name would be taken for it.
    pub name: &'a str,
    /// Whether several threads may have a queue of their own.
    pub multi_queue: bool,
    /// The SELinux label that it gets; without effect where SELinux is off.
    pub label: Option<&'a str>,
}

impl Tap<'_> {
    /// Makes the device in the calling thread's namespace, down, where it stays until it is deleted; whoever may open
    /// `/dev/net/tun` may use it. Equals `ip tuntap add NAME mode tap [multi_queue]`.
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
            // Otherwise the crate would make it.
            fs::metadata(MAKER)?;
            let tap = DeviceBuilder::new()
                .name(self.name)
                .layer(Layer::L2)
                .multi_queue(self.multi_queue)
                .inherit_enable_state()
                .build_sync()?;
            tap.persist()
        };
        make().map_err(|source| match source.raw_os_error().map(Errno::from_raw) {
            // Another program has it, or it is a link of another kind (drivers/net/tun.c, `tun_set_iff`).
            Some(Errno::EBUSY | Errno::EINVAL) => Error::Kernel {
                verb: "create",
                object: format!("tap {}", self.name),
                errno: Errno::EEXIST,
                text: None,
            },
            _ => Error::io(format!("create tap {} by {MAKER}", self.name))(source),
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
