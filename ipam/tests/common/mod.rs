//! Calls of the plugins without a process around them, on lease directories of the tests' own.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use cni::{Env, Plugin, serve};
use ipam::HostLocal;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A data directory, gone with the test.
pub struct Leases(TempDir);

/// What a call came to: the document, or code and message.
pub type Outcome = Result<Value, (u64, String)>;

impl Leases {
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub fn data_dir(&self) -> &Path {
        self.0.path()
    }

    /// The directory of network `net`.
    pub fn dir(&self) -> PathBuf {
        self.0.path().join("net")
    }

    /// A configuration with these keys in `ipam`.
    pub fn conf(&self, ipam: Value) -> Value {
        let mut conf =
            json!({"cniVersion": "1.1.0", "name": "net", "type": "host-local", "ipam": ipam});
        conf["ipam"]["type"] = "host-local".into();
        conf["ipam"]["dataDir"] = self.data_dir().to_str().unwrap().into();
        conf
    }

    /// The names of the leases, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir()).into_iter().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.retain(|name| name != "lock" && !name.starts_with("last_reserved_ip"));
        names.sort();
        names
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir().join(name)).unwrap()
    }

    pub fn write(&self, name: &str, content: &str) {
        fs::create_dir_all(self.dir()).unwrap();
        fs::write(self.dir().join(name), content).unwrap();
    }
}

pub fn env(verb: &str, id: &str, ifname: &str, args: &str) -> Env {
    Env {
        command: Some(verb.into()),
        container_id: Some(id.into()),
        netns: Some("/run/netns/none".into()),
        ifname: Some(ifname.into()),
        args: Some(args.into()),
        path: Some("/opt/cni/bin".into()),
        netns_override: None,
    }
}

pub fn call_with(plugin: &dyn Plugin, env: &Env, conf: &Value) -> Outcome {
    let reply = serve(plugin, env, conf.to_string().as_bytes());
    let document: Value = serde_json::from_slice(&reply.stdout).unwrap_or(Value::Null);
    match reply.success {
        true => Ok(document),
        false => {
            let details = document["details"].as_str().unwrap_or_default();
            Err((
                document["code"].as_u64().unwrap(),
                format!("{}; {details}", document["msg"].as_str().unwrap()),
            ))
        }
    }
}

pub fn call(verb: &str, id: &str, conf: &Value) -> Outcome {
    call_with(&HostLocal, &env(verb, id, "eth0", ""), conf)
}

/// The addresses of a successful ADD, without prefix lengths.
pub fn addresses(outcome: &Outcome) -> Vec<String> {
    let result = outcome
        .as_ref()
        .unwrap_or_else(|(code, message)| panic!("{code}: {message}"));
    let ips = result["ips"].as_array().unwrap().iter();
    ips.map(|ip| {
        ip["address"]
            .as_str()
            .unwrap()
            .split('/')
            .next()
            .unwrap()
            .to_owned()
    })
    .collect()
}

pub fn add(id: &str, conf: &Value) -> String {
    addresses(&call("ADD", id, conf)).join(",")
}

/// The code of a call that has to fail, and its message.
pub fn refused(outcome: Outcome) -> (u64, String) {
    match outcome {
        Ok(document) => panic!("it succeeded: {document}"),
        Err(refusal) => refusal,
    }
}
