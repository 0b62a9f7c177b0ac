//! The way to an IPAM plugin: in this process when it is our own, by exec otherwise.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use cni::{AddResult, Call, Code, Error, Plugin, Result, delegate};

use crate::undo::Undo;

/// The IPAM plugin of one network.
#[derive(Clone)]
pub enum Ipam {
    /// One of ours, called without a new process.
    Bundled(&'static dyn Plugin),
    /// Somebody else's executable on `CNI_PATH`.
    Executable(String),
}

/// The IPAM plugin that this executable carries under `name`.
pub fn bundled(name: &str) -> Option<&'static dyn Plugin> {
    match name.strip_prefix("heddle-").unwrap_or(name) {
        "host-local" => Some(&::ipam::HostLocal),
        "static" => Some(&::ipam::Static),
        _ => None,
    }
}

impl Ipam {
    /// Decides how `plugin_type` is to be called: in process when `CNI_PATH` leads to this very
    /// executable, or when it leads nowhere and the name is one of ours.
    ///
    /// # Errors
    /// Code 7 when the plugin is neither on `CNI_PATH` nor one of ours.
    pub fn resolve(call: &Call, plugin_type: &str) -> Result<Self> {
        let ours = bundled(plugin_type);
        match (delegate::find(call, plugin_type), ours) {
            (Ok(path), Some(plugin)) if is_this_executable(&path) => Ok(Self::Bundled(plugin)),
            (Ok(_), _) => Ok(Self::Executable(plugin_type.to_owned())),
            (Err(_), Some(plugin)) => Ok(Self::Bundled(plugin)),
            (Err(error), None) => Err(error),
        }
    }

    /// The IPAM plugin as far as DEL and GC need it: they must work with a configuration that ADD would refuse.
    ///
    /// # Errors
    /// As for [`Ipam::resolve`].
    pub fn of(call: &Call) -> Result<Option<Self>> {
        let plugin: String = call.conf.parse_key(&["ipam", "type"])?;
        match plugin.is_empty() {
            true => Ok(None),
            false => Self::resolve(call, &plugin).map(Some),
        }
    }

    /// Takes the addresses of `call`'s attachment, for the entry `interface` of the result; gives them back should
    /// the call fail.
    ///
    /// # Errors
    /// Code 7 when the plugin gives none; otherwise whatever it says.
    pub fn allocate<'a>(
        &self,
        call: &'a Call,
        interface: usize,
        undo: &mut Undo<'a>,
    ) -> Result<AddResult> {
        let ipam = self.clone();
        let give_back = move || ipam.del(call);
        // Our own leave nothing when they fail, and may have failed because of a lease that is to stay: that of the
        // same attachment. What others leave is for their DEL (specification, section 4).
        let mut result = match self {
            Self::Bundled(plugin) => {
                let result = plugin.add(call)?;
                undo.push("the IPAM allocation", give_back);
                result
            }
            Self::Executable(name) => {
                undo.push("the IPAM allocation", give_back);
                delegate::add(call, name)?
            }
        };
        if result.ips.is_empty() {
            let plugin: String = call.conf.parse_key(&["ipam", "type"])?;
            return Err(Error::new(
                Code::InvalidConfig,
                format!(
                    "IPAM plugin {plugin:?} returned missing IP config: give it an address or a range, or leave \"ipam\" out for a layer 2 network"
                ),
            ));
        }
        for ip in &mut result.ips {
            ip.interface = Some(interface);
        }
        Ok(result)
    }

    /// DEL of the network's IPAM plugin, if it has one.
    ///
    /// # Errors
    /// Whatever the plugin says.
    pub fn release(call: &Call) -> Result<()> {
        Self::of(call)?.map_or(Ok(()), |ipam| ipam.del(call))
    }

    /// GC of the network's IPAM plugin, if it has one.
    ///
    /// # Errors
    /// Whatever the plugin says.
    pub fn collect(call: &Call) -> Result<()> {
        Self::of(call)?.map_or(Ok(()), |ipam| ipam.gc(call))
    }

    /// Gives the addresses back.
    ///
    /// # Errors
    /// Whatever the plugin says; never for addresses that are already gone.
    pub fn del(&self, call: &Call) -> Result<()> {
        match self {
            Self::Bundled(plugin) => plugin.del(call),
            Self::Executable(name) => delegate::del(call, name),
        }
    }

    /// Lets the plugin compare its own state with `prevResult`.
    ///
    /// # Errors
    /// Whatever the plugin says.
    pub fn check(&self, call: &Call) -> Result<()> {
        match self {
            Self::Bundled(plugin) => plugin.check(call),
            Self::Executable(name) => delegate::check(call, name),
        }
    }

    /// Frees what belongs to none of the valid attachments.
    ///
    /// # Errors
    /// Whatever the plugin says.
    pub fn gc(&self, call: &Call) -> Result<()> {
        match self {
            Self::Bundled(plugin) => plugin.gc(call),
            Self::Executable(name) => delegate::gc(call, name),
        }
    }

    /// Asks the plugin whether it could serve an ADD.
    ///
    /// # Errors
    /// Whatever the plugin says.
    pub fn status(&self, call: &Call) -> Result<()> {
        match self {
            Self::Bundled(plugin) => plugin.status(call),
            Self::Executable(name) => delegate::status(call, name),
        }
    }
}

fn is_this_executable(path: &Path) -> bool {
    match (fs::metadata(path), fs::metadata("/proc/self/exe")) {
        (Ok(found), Ok(own)) => (found.dev(), found.ino()) == (own.dev(), own.ino()),
        _ => false,
    }
}
