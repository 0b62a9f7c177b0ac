//! Devices of the machine's buses as `/sys` shows them: which links one has, and which driver. Links are those of the
//! namespace that `/sys` was mounted in.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A device by its directory in `/sys`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device(PathBuf);

impl Device {
    /// A PCI device by its address, such as `0000:00:1f.6`; `None` when there is none. Equals `ls /sys/bus/pci/devices`.
    pub fn pci(address: &str) -> Option<Self> {
        Self::on_bus("pci", address)
    }

    /// A device of the auxiliary bus, such as the function `mlx5_core.sf.4`; `None` when there is none. Equals
    /// `ls /sys/bus/auxiliary/devices`.
    pub fn auxiliary(name: &str) -> Option<Self> {
        Self::on_bus("auxiliary", name)
    }

    /// A device by its path below `/sys/devices`; `None` when there is none, or when the path leads elsewhere.
    pub fn at(path: &str) -> Option<Self> {
        let path = fs::canonicalize(path).ok()?;
        (path.starts_with("/sys/devices") && path.is_dir()).then_some(Self(path))
    }

    fn on_bus(bus: &str, name: &str) -> Option<Self> {
        // A name with a slash would lead out of the bus.
        let path = Path::new("/sys/bus").join(bus).join("devices").join(name);
        (!name.is_empty() && !name.contains('/') && path.is_dir()).then_some(Self(path))
    }

    /// The name of the driver that has it; `None` when none has. Equals `readlink DEVICE/driver`.
    pub fn driver(&self) -> Option<String> {
        let driver = fs::read_link(self.0.join("driver")).ok()?;
        Some(driver.file_name()?.to_string_lossy().into_owned())
    }

    /// The names of its links, also of those that its virtio device has. Equals `ls DEVICE/net DEVICE/virtio*/net`.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn links(&self) -> Result<Vec<String>> {
        let mut links = names(&self.0.join("net"))?;
        for name in names(&self.0)? {
            if name.starts_with("virtio") {
                links.extend(names(&self.0.join(name).join("net"))?);
            }
        }
        links.sort_unstable();
        Ok(links)
    }
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let failed = || Error::io(format!("read {}", dir.display()));
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed())?,
    };
    let name = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.map_err(failed())?;
        Ok(entry.file_name().to_string_lossy().into_owned())
    };
    entries.map(name).collect()
}
