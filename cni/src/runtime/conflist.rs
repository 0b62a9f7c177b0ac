//! Network configuration lists: found, read, and cut into what each plugin gets on stdin.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::RuntimeConf;
use crate::{AddResult, Attachment, Code, Error, Result, Version, fold};

/// A network configuration list, as libcni reads it (specification, section 1).
#[derive(Clone, Debug, PartialEq)]
pub struct Conflist {
    /// `name` of the network.
    pub name: String,
    /// The newest version of `cniVersion` and `cniVersions` that is known here.
    pub version: Version,
    /// `disableCheck`: the runtime must not use CHECK.
    pub disable_check: bool,
    /// `disableGC`: the runtime must not use GC.
    pub disable_gc: bool,
    /// The plugins in the order of ADD.
    pub plugins: Vec<PluginConf>,
    /// `loadOnlyInlinedPlugins`: no further plugins are read from the directory named after the network.
    inlined_only: bool,
    /// The document as it stands in the file.
    pub(super) bytes: Vec<u8>,
}

/// The configuration of one plugin of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginConf {
    /// `type`: the name of the executable.
    pub plugin_type: String,
    /// `capabilities` that are `true`.
    pub capabilities: Vec<String>,
    conf: Map<String, Value>,
}

impl Conflist {
    /// The first network named `name` in `dir`: all `.conflist` files in order, then `.conf` and `.json`. A file that
    /// cannot be read ends the search, as in libcni.
    pub fn load_dir(dir: &Path, name: &str) -> Result<Self> {
        let lists = files(dir, &["conflist"])?;
        let singles = files(dir, &["conf", "json"])?;
        for file in &lists {
            let list = Self::load(file)?;
            if list.name == name {
                return Ok(list);
            }
        }
        for file in &singles {
            let list = Self::from_single(&read(file)?).map_err(|e| in_file(file, &e))?;
            if list.name == name {
                return Ok(list);
            }
        }
        Err(invalid(if lists.is_empty() && singles.is_empty() {
            format!("no net configurations found in {}", dir.display())
        } else {
            format!(
                "no net configuration with name {name:?} in {}",
                dir.display()
            )
        }))
    }

    /// The list in `file`, with the plugins in the directory beside it that is named as the network.
    pub fn load(file: &Path) -> Result<Self> {
        let mut list = Self::parse(&read(file)?).map_err(|e| in_file(file, &e))?;
        if !list.inlined_only
            && let Some(dir) = file.parent()
        {
            for file in files(&dir.join(&list.name), &["conf"])? {
                let plugin = decode(&read(&file)?)
                    .and_then(PluginConf::new)
                    .map_err(|e| in_file(&file, &e))?;
                list.plugins.push(plugin);
            }
        }
        if list.plugins.is_empty() {
            return Err(in_file(file, &invalid("no plugin configs found".into())));
        }
        Ok(list)
    }

    /// The list in `bytes`; it may have no plugins yet, if they are in files of their own.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let doc = decode(bytes)?;
        let name: String = field(&doc, "name")?;
        if name.is_empty() {
            return Err(invalid("no name".into()));
        }
        let inlined_only = flag(&doc, "loadOnlyInlinedPlugins")?;
        let plugins: Option<Vec<Value>> = field(&doc, "plugins")?;
        match &plugins {
            None if inlined_only => {
                return Err(invalid(
                    "`loadOnlyInlinedPlugins` is true, and no 'plugins' key".into(),
                ));
            }
            Some(plugins) if plugins.is_empty() => {
                return Err(invalid("no plugins in list".into()));
            }
            _ => {}
        }
        let mut list = Conflist {
            name,
            version: version(&doc)?,
            disable_check: flag(&doc, "disableCheck")?,
            disable_gc: flag(&doc, "disableGC")?,
            plugins: Vec::new(),
            inlined_only,
            bytes: bytes.to_vec(),
        };
        for (i, conf) in plugins.unwrap_or_default().into_iter().enumerate() {
            let plugin = PluginConf::new(conf)
                .map_err(|e| invalid(format!("failed to parse plugin config {i}: {e}")))?;
            list.plugins.push(plugin);
        }
        Ok(list)
    }

    /// A configuration of one plugin, as in the time before lists, made into a list.
    fn from_single(bytes: &[u8]) -> Result<Self> {
        let doc = decode(bytes)?;
        let list = json!({
            "name": field::<String>(&doc, "name")?,
            "cniVersion": field::<String>(&doc, "cniVersion")?,
            "plugins": [doc],
        });
        Self::parse(list.to_string().as_bytes())
    }
}

impl PluginConf {
    fn new(conf: Value) -> Result<Self> {
        let plugin_type: String = field(&conf, "type")?;
        if plugin_type.is_empty() {
            return Err(invalid("missing 'type'".into()));
        }
        let capabilities: BTreeMap<String, bool> = field(&conf, "capabilities")?;
        let Value::Object(conf) = conf else {
            return Err(invalid("a plugin has to be an object".into()));
        };
        Ok(PluginConf {
            plugin_type,
            capabilities: capabilities
                .into_iter()
                .filter_map(|(capability, on)| on.then_some(capability))
                .collect(),
            conf,
        })
    }

    /// As libcni puts it into messages.
    pub(super) fn description(&self) -> String {
        let name = fold::get(&self.conf, "name").and_then(|(_, name)| name.as_str());
        match name {
            Some(name) if !name.is_empty() => format!("type={:?} name={name:?}", self.plugin_type),
            _ => format!("type={:?}", self.plugin_type),
        }
    }

    /// The configuration with the network's name and version, for commands that are about no attachment.
    pub(super) fn for_network(&self, list: &Conflist) -> Value {
        let mut conf = self.conf.clone();
        conf.insert("name".into(), list.name.as_str().into());
        conf.insert("cniVersion".into(), list.version.as_str().into());
        Value::Object(conf)
    }

    /// The configuration for ADD, DEL and CHECK: with `prevResult`, and `runtimeConfig` if there is something for it.
    pub(super) fn for_attachment(
        &self,
        list: &Conflist,
        prev_result: Option<&AddResult>,
        rt: &RuntimeConf,
    ) -> Result<Value> {
        let mut conf = self.for_network(list);
        if let Some(result) = prev_result {
            conf["prevResult"] = result.to_json(list.version)?;
        }
        let runtime_config: Map<_, _> = self
            .capabilities
            .iter()
            .filter_map(|key| rt.capability_args.get_key_value(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if !runtime_config.is_empty() {
            conf["runtimeConfig"] = runtime_config.into();
        }
        Ok(conf)
    }

    /// The configuration for GC; the list of valid attachments under both its names (containernetworking/cni#1101).
    pub(super) fn for_gc(&self, list: &Conflist, valid: Option<&[Attachment]>) -> Value {
        let mut conf = self.for_network(list);
        if let Some(valid) = valid {
            let valid: Value = valid
                .iter()
                .map(|a| json!({"containerID": a.container_id, "ifname": a.ifname}))
                .collect();
            conf["cni.dev/valid-attachments"] = valid.clone();
            conf["cni.dev/attachments"] = valid;
        }
        conf
    }
}

/// The newest known version among `cniVersion` and `cniVersions`; newer ones are for newer runtimes.
fn version(doc: &Value) -> Result<Version> {
    let mut versions: Vec<String> = field(doc, "cniVersions")?;
    let single: String = field(doc, "cniVersion")?;
    versions.push(single.clone());
    let newest = versions
        .iter()
        .filter(|v| !v.is_empty())
        .filter_map(|v| v.parse().ok())
        .max();
    newest.map_or_else(|| single.parse(), Ok)
}

/// A boolean, which may also be written as a string.
fn flag(doc: &Value, key: &str) -> Result<bool> {
    let value: Value = field(doc, key)?;
    match &value {
        Value::Null => Ok(false),
        Value::Bool(on) => Ok(*on),
        Value::String(s) if s.eq_ignore_ascii_case("true") => Ok(true),
        Value::String(s) if s.eq_ignore_ascii_case("false") => Ok(false),
        other => Err(invalid(format!(
            "invalid value {other} for key {key:?}: expected a boolean"
        ))),
    }
}

fn field<T: DeserializeOwned + Default>(doc: &Value, key: &str) -> Result<T> {
    fold::read_at(doc, &[key])
        .map(Option::unwrap_or_default)
        .map_err(|e| invalid(e.to_string()))
}

/// The files in `dir` with one of the extensions, sorted by name; none if there is no such directory.
fn files(dir: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.and_then(|entries| entries.collect::<io::Result<Vec<_>>>()),
    };
    let mut files: Vec<_> = entries
        .map_err(|e| unreadable(dir, &e))?
        .into_iter()
        .filter(|entry| !entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .filter(|path| {
            let extension = path.extension().unwrap_or_default();
            extensions.iter().any(|e| extension == *e)
        })
        .collect();
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).map_err(|e| unreadable(file, &e))
}

fn decode(bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes).map_err(|e| Error::new(Code::Decode, e.to_string()))
}

fn unreadable(path: &Path, e: &io::Error) -> Error {
    Error::new(Code::Io, format!("error reading {}: {e}", path.display()))
}

fn invalid(msg: String) -> Error {
    Error::new(Code::InvalidConfig, msg)
}

fn in_file(file: &Path, e: &Error) -> Error {
    Error::new(
        e.code,
        format!("error parsing configuration list {}: {e}", file.display()),
    )
}

#[cfg(test)]
mod tests;
