//! The network configuration of a call.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::quoted;
use crate::{AddResult, Attachment, Code, Command, Error, Result, Version, fold, names};

/// The network configuration: the keys of the protocol as values, the plugin's own keys by [`NetConf::parse`].
#[derive(Clone, Debug)]
pub struct NetConf {
    /// `cniVersion`; absent means 0.1.0.
    pub version: Version,
    /// `name` of the network.
    pub name: String,
    /// `type` of the plugin.
    pub plugin_type: String,
    /// `prevResult`, in whatever form it came. One that cannot be read is an error in ADD and CHECK and counts as
    /// absent otherwise, for DEL has to work without it.
    pub prev_result: Option<AddResult>,
    /// `cni.dev/valid-attachments` or `cni.dev/attachments`; read for GC only.
    pub valid_attachments: Option<Vec<Attachment>>,
    raw: Value,
}

impl NetConf {
    /// Checks `doc` and takes the protocol's own keys out of it, for a plugin that speaks `versions`.
    pub(crate) fn new(doc: Value, versions: &[Version], command: Command) -> Result<Self> {
        let name: String = read_at(&doc, &["name"])?.unwrap_or_default();
        names::network(&name)?;
        let version: String = read_at(&doc, &["cniVersion"])?.unwrap_or_default();
        let version = version
            .parse()
            .ok()
            .filter(|v| versions.contains(v))
            .ok_or_else(|| {
                let versions: Vec<_> = versions.iter().map(|v| v.as_str()).collect();
                Error::new(Code::IncompatibleVersion, "incompatible CNI versions").details(format!(
                    "config is {version:?}, plugin supports {}",
                    quoted(&versions)
                ))
            })?;
        let prev_result = doc
            .as_object()
            .and_then(|object| fold::get(object, "prevResult"))
            .map(|(_, prev)| AddResult::from_json(prev, version))
            .transpose();
        let prev_result = match prev_result {
            Err(e) if matches!(command, Command::Add | Command::Check) => {
                return Err(invalid(format!("could not parse prevResult: {e}")));
            }
            prev_result => prev_result.unwrap_or_default(),
        };
        let valid_attachments = match command {
            Command::Gc => valid_attachments(&doc)?,
            _ => None,
        };
        Ok(NetConf {
            version,
            name,
            plugin_type: read_at(&doc, &["type"])?.unwrap_or_default(),
            prev_result,
            valid_attachments,
            raw: doc,
        })
    }

    /// Reads the whole configuration as `T`, by the rules of Go: keys match without regard to case, `null` is absent,
    /// unknown keys are ignored. A value of the wrong type is code 7 and names the key and the value.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        fold::read(&self.raw).map_err(|e| invalid(e.to_string()))
    }

    /// Reads what stands at `path`, e.g. `["ipam"]` or `["args", "cni"]`; `T::default()` where nothing stands.
    /// Errors as for [`NetConf::parse`].
    pub fn parse_key<T: DeserializeOwned + Default>(&self, path: &[&str]) -> Result<T> {
        read_at(&self.raw, path).map(Option::unwrap_or_default)
    }

    /// The whole configuration as it came.
    pub fn raw(&self) -> &Value {
        &self.raw
    }
}

/// The JSON object in `stdin`; code 6 if there is none. `null` is an empty one, as in Go.
pub(crate) fn decode(stdin: &[u8]) -> Result<Value> {
    let refuse = |why: String| {
        Error::new(
            Code::Decode,
            format!("error unmarshall network config: {why}"),
        )
    };
    match serde_json::from_slice(stdin).map_err(|e| refuse(e.to_string()))? {
        Value::Null => Ok(Value::Object(Map::new())),
        doc @ Value::Object(_) => Ok(doc),
        _ => Err(refuse("expected a JSON object".into())),
    }
}

fn valid_attachments(doc: &Value) -> Result<Option<Vec<Attachment>>> {
    #[derive(Deserialize)]
    struct Wire {
        #[serde(rename = "containerID")]
        container_id: String,
        ifname: String,
    }
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        if let Some(list) = read_at::<Vec<Wire>>(doc, &[key])? {
            let attachments = list.into_iter().map(|wire| Attachment {
                container_id: wire.container_id,
                ifname: wire.ifname,
            });
            return Ok(Some(attachments.collect()));
        }
    }
    Ok(None)
}

fn read_at<T: DeserializeOwned>(doc: &Value, path: &[&str]) -> Result<Option<T>> {
    fold::read_at(doc, path).map_err(|e| invalid(e.to_string()))
}

fn invalid(msg: String) -> Error {
    Error::new(Code::InvalidConfig, msg)
}

/// The version that `doc` says, if it says one that exists.
pub(crate) fn version(doc: &Value) -> Option<Version> {
    read_at::<String>(doc, &["cniVersion"]).ok()??.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase", default)]
    struct Ipam {
        data_dir: String,
        step: u8,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Conf {
        bridge: String,
        ipam: Ipam,
    }

    fn conf() -> NetConf {
        let doc = json!({
            "cniVersion": "1.0.0", "name": "net", "Bridge": "cbr0", "IPAM": {"dataDIR": "/d", "Step": 300},
            "runtimeConfig": null, "args": {"CNI": {"step": 7}}, "dns": "8.8.8.8",
        });
        NetConf::new(doc, Version::ALL, Command::Add).unwrap()
    }

    fn parse_key<T: DeserializeOwned + Default>(path: &[&str]) -> std::result::Result<T, String> {
        conf().parse_key(path).map_err(|e| {
            assert_eq!(e.code, Code::InvalidConfig);
            e.msg
        })
    }

    #[test]
    fn a_key_is_found_whatever_its_case_and_its_default_where_nothing_stands() {
        assert_eq!(parse_key(&["bridge"]), Ok("cbr0".to_owned()));
        assert_eq!(parse_key(&["ipam", "datadir"]), Ok("/d".to_owned()));
        let seven = Ipam {
            step: 7,
            ..Ipam::default()
        };
        assert_eq!(parse_key(&["args", "cni"]), Ok(seven));
        for absent in [
            &["runtimeConfig"][..],
            &["runtimeConfig", "ips"],
            &["args", "labels"],
            &["x", "y", "z"],
        ] {
            assert_eq!(parse_key(absent), Ok(Ipam::default()), "{absent:?}");
        }
    }

    #[test]
    fn a_misfit_is_told_by_its_whole_path_as_it_is_spelled() {
        let step =
            r#"invalid value 300 for key "IPAM.Step": expected a whole number from 0 to 255"#;
        assert_eq!(parse_key::<Ipam>(&["ipam"]), Err(step.into()));
        assert_eq!(parse_key::<u8>(&["ipam", "step"]), Err(step.into()));
        let error = conf().parse::<Conf>().unwrap_err();
        assert_eq!(
            (error.code, error.msg.as_str()),
            (Code::InvalidConfig, step)
        );
        let object = r#"invalid value "8.8.8.8" for key "dns": expected an object"#;
        assert_eq!(
            parse_key::<Vec<String>>(&["dns", "search"]),
            Err(object.into())
        );
    }
}
