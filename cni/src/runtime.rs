//! The runtime side: run the chain of a network's plugins for one attachment, with the semantics of libcni 1.3.
//!
//! Reference: `libcni/api.go` of github.com/containernetworking/cni. Errors carry the code of the plugin that failed.

pub(crate) mod cache;
mod conflist;

use std::path::PathBuf;

use serde_json::{Map, Value};

pub use conflist::{Conflist, PluginConf};

use crate::exec::Invocation;
use crate::{AddResult, Attachment, Code, Command, Error, Result, Version, names};

/// Where a runtime finds plugins and keeps results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// The directories of `CNI_PATH`, searched in this order.
    pub path: Vec<PathBuf>,
    /// Results are kept in `results/` below it; libcni's default is `/var/lib/cni`.
    pub cache_dir: PathBuf,
}

/// What a runtime knows about one attachment; libcni's `RuntimeConf`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuntimeConf {
    /// Container id and interface name.
    pub attachment: Attachment,
    /// The container's network namespace; `None` once it is gone.
    pub netns: Option<PathBuf>,
    /// `CNI_ARGS`, as pairs.
    pub args: Vec<(String, String)>,
    /// Arguments by capability; a plugin gets those whose capability its configuration declares.
    pub capability_args: Map<String, Value>,
}

impl Runtime {
    /// ADD of every plugin in order; the result of the last one, which is cached as well.
    ///
    /// Stops at the first error and undoes nothing: that is up to the caller, by [`Runtime::del`].
    pub fn add(&self, list: &Conflist, rt: &RuntimeConf) -> Result<AddResult> {
        names::container_id(&rt.attachment.container_id)?;
        names::network(&list.name)?;
        names::interface(&rt.attachment.ifname)?;
        let mut result = None;
        for plugin in &list.plugins {
            let conf = plugin.for_attachment(list, result.as_ref(), rt)?;
            let added = self
                .invocation(plugin, Command::Add, rt, &conf, &args(rt))
                .add(list.version)
                .map_err(|e| failed(plugin, "add", &e))?;
            result = Some(added);
        }
        let result = result.unwrap_or_default();
        cache::write(&self.cache_dir, list, rt, &result)?;
        Ok(result)
    }

    /// CHECK of every plugin in order, against the cached result. Code 1 if the configuration is older than 0.4.0.
    pub fn check(&self, list: &Conflist, rt: &RuntimeConf) -> Result<()> {
        if list.version < Command::Check.since() {
            return Err(Error::new(
                Code::IncompatibleVersion,
                format!(
                    "configuration version {:?} does not support the CHECK command",
                    list.version.as_str()
                ),
            ));
        }
        if list.disable_check {
            return Ok(());
        }
        let result = self.cached_result(list, rt)?;
        for plugin in &list.plugins {
            let conf = plugin.for_attachment(list, result.as_ref(), rt)?;
            self.invocation(plugin, Command::Check, rt, &conf, &args(rt))
                .run()?;
        }
        Ok(())
    }

    /// DEL of every plugin in reverse order; the cached result is dropped once all have succeeded. Stops at the first
    /// error. From 0.4.0 on the plugins get the cached result; one that cannot be read is as good as none.
    pub fn del(&self, list: &Conflist, rt: &RuntimeConf) -> Result<()> {
        let result = if list.version >= Version::V0_4_0 {
            self.cached_result(list, rt).unwrap_or_default()
        } else {
            None
        };
        for plugin in list.plugins.iter().rev() {
            let conf = plugin.for_attachment(list, result.as_ref(), rt)?;
            self.invocation(plugin, Command::Del, rt, &conf, &args(rt))
                .run()
                .map_err(|e| failed(plugin, "delete", &e))?;
        }
        cache::remove(&self.cache_dir, &list.name, &rt.attachment);
        Ok(())
    }

    /// DEL of every cached attachment to the network that is not in `valid`, then, from 1.1.0 on, GC of every plugin.
    ///
    /// `valid` as `None` means what it means in libcni: every cached attachment is deleted, and plugins, told of no
    /// valid attachments, leave everything else alone. All errors are collected into one.
    pub fn gc(&self, list: &Conflist, valid: Option<&[Attachment]>) -> Result<()> {
        if list.disable_gc {
            return Ok(());
        }
        let mut errors = Vec::new();
        for rt in self.attachments(&list.name) {
            if valid.is_some_and(|valid| valid.contains(&rt.attachment)) {
                continue;
            }
            if let Err(e) = self.del(list, &rt) {
                let Attachment {
                    container_id,
                    ifname,
                } = &rt.attachment;
                errors.push((
                    e.code,
                    format!("failed to delete stale attachment {container_id} {ifname}: {e}"),
                ));
            }
        }
        if list.version >= Command::Gc.since() {
            for plugin in &list.plugins {
                let conf = plugin.for_gc(list, valid);
                let rt = RuntimeConf::default();
                if let Err(e) = self.invocation(plugin, Command::Gc, &rt, &conf, "").run() {
                    let plugin_type = &plugin.plugin_type;
                    errors.push((e.code, format!("failed to GC plugin {plugin_type}: {e}")));
                }
            }
        }
        let Some((code, _)) = errors.first() else {
            return Ok(());
        };
        let msgs: Vec<_> = errors.iter().map(|(_, msg)| msg.as_str()).collect();
        Err(Error::new(*code, msgs.join("\n")))
    }

    /// STATUS of every plugin in order, from 1.1.0 on; the first error comes back as it is.
    pub fn status(&self, list: &Conflist) -> Result<()> {
        if list.version < Command::Status.since() {
            return Ok(());
        }
        for plugin in &list.plugins {
            let conf = plugin.for_network(list);
            let rt = RuntimeConf::default();
            self.invocation(plugin, Command::Status, &rt, &conf, "")
                .run()?;
        }
        Ok(())
    }

    /// What is cached of every attachment to the network of this name, in the order of the file names; files that cannot be
    /// read are passed over.
    pub fn attachments(&self, network: &str) -> Vec<RuntimeConf> {
        cache::attachments(&self.cache_dir, network)
    }

    /// The result that [`Runtime::add`] has cached, if there is one. Code 6 if it cannot be read.
    pub fn cached_result(&self, list: &Conflist, rt: &RuntimeConf) -> Result<Option<AddResult>> {
        cache::result(&self.cache_dir, &list.name, &rt.attachment)
    }

    fn invocation<'a>(
        &'a self,
        plugin: &'a PluginConf,
        command: Command,
        rt: &'a RuntimeConf,
        conf: &'a Value,
        args: &'a str,
    ) -> Invocation<'a> {
        Invocation {
            plugin_type: &plugin.plugin_type,
            command,
            attachment: &rt.attachment,
            netns: rt.netns.as_deref(),
            args,
            path: &self.path,
            conf,
        }
    }
}

/// `CNI_ARGS` as one string.
fn args(rt: &RuntimeConf) -> String {
    let pairs: Vec<_> = rt.args.iter().map(|(k, v)| format!("{k}={v}")).collect();
    pairs.join(";")
}

fn failed(plugin: &PluginConf, what: &str, error: &Error) -> Error {
    Error::new(
        error.code,
        format!(
            "plugin {} failed ({what}): {}",
            plugin.description(),
            error.msg
        ),
    )
    .details(error.details.as_str())
}

#[cfg(test)]
mod tests;
