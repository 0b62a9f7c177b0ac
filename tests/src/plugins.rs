//! Calls a set of plugin binaries on a node as a runtime does: environment, stdin, one exec, one document back.
mod reply;
mod stopped;
mod strace;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

pub use reply::Reply;
pub use strace::{Effect, Fault, Trace};

use crate::{Node, Pod, Result, find};

/// Every plugin that Heddle has, by the reference's names.
const TYPES: [&str; 17] = [
    "bandwidth",
    "bridge",
    "dummy",
    "firewall",
    "host-device",
    "host-local",
    "ipvlan",
    "loopback",
    "macvlan",
    "portmap",
    "ptp",
    "sbr",
    "static",
    "tap",
    "tuning",
    "vlan",
    "vrf",
];

/// Plugin binaries on a node, and the `CNI_PATH` that finds them.
#[derive(Clone, Debug)]
pub struct Plugins {
    node: Node,
    path: String,
}

impl Plugins {
    /// Heddle's own, put into the node's `/opt/cni/bin` under the plain and the prefixed names.
    pub fn heddle(node: &Node) -> Result<Plugins> {
        let program = fs::read(find::heddle_cni()?).context("reading our executable")?;
        let dir = Path::new("/opt/cni/bin");
        node.run(|| -> Result {
            let file = dir.join("heddle-cni");
            fs::write(&file, &program).context("copying our executable")?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
            for kind in TYPES {
                symlink("heddle-cni", dir.join(kind))?;
                symlink("heddle-cni", dir.join(format!("heddle-{kind}")))?;
            }
            Ok(())
        })?;
        Ok(Plugins {
            node: node.clone(),
            path: "/opt/cni/bin".into(),
        })
    }

    /// The reference plugins that the machine has.
    pub fn reference(node: &Node) -> Plugins {
        Plugins {
            node: node.clone(),
            path: find::reference_dir().to_string_lossy().into_owned(),
        }
    }

    /// The same with directories of one's own on the `CNI_PATH`.
    pub fn with_path(&self, path: &str) -> Plugins {
        Plugins {
            node: self.node.clone(),
            path: path.into(),
        }
    }

    /// The node they run on.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// A call of `conf["type"]`, with no container until one is named.
    pub fn call(&self, command: &str, conf: &Value) -> Call {
        let kind = conf["type"].as_str().unwrap_or("bridge").to_owned();
        let names = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"];
        let mut env: BTreeMap<String, String> =
            names.map(|name| (name.to_owned(), String::new())).into();
        env.insert("CNI_COMMAND".into(), command.into());
        env.insert("CNI_PATH".into(), self.path.clone());
        let stdin = conf.to_string().into_bytes();
        Call {
            node: self.node.clone(),
            kind,
            env,
            stdin,
            fault: None,
            traced: false,
        }
    }

    /// ADD for a pod, whose name is the container id, as `eth0`.
    pub fn add(&self, conf: &Value, pod: &Pod) -> Result<Reply> {
        self.call("ADD", conf).pod(pod).send()
    }

    /// DEL for a pod.
    pub fn del(&self, conf: &Value, pod: &Pod) -> Result<Reply> {
        self.call("DEL", conf).pod(pod).send()
    }

    /// CHECK for a pod against what ADD gave.
    pub fn check(&self, conf: &Value, pod: &Pod, result: &Value) -> Result<Reply> {
        self.call("CHECK", &with_prev(conf, result)).pod(pod).send()
    }

    /// GC with the attachments (container id, interface) that are still valid.
    pub fn gc(&self, conf: &Value, valid: &[(&str, &str)]) -> Result<Reply> {
        let valid = valid
            .iter()
            .map(|(id, ifname)| serde_json::json!({"containerID": id, "ifname": ifname}));
        let mut conf = conf.clone();
        conf["cni.dev/valid-attachments"] = valid.collect();
        self.call("GC", &conf).send()
    }

    /// STATUS.
    pub fn status(&self, conf: &Value) -> Result<Reply> {
        self.call("STATUS", conf).send()
    }
}

/// The configuration with a result as its `prevResult`.
pub fn with_prev(conf: &Value, result: &Value) -> Value {
    let mut conf = conf.clone();
    conf["prevResult"] = result.clone();
    conf
}

/// One call, before it is made.
#[derive(Clone, Debug)]
pub struct Call {
    node: Node,
    kind: String,
    env: BTreeMap<String, String>,
    stdin: Vec<u8>,
    fault: Option<Fault>,
    traced: bool,
}

impl Call {
    /// For this pod: its name is the container id, its path the netns, `eth0` the interface.
    pub fn pod(self, pod: &Pod) -> Call {
        let netns = pod.netns().to_string_lossy().into_owned();
        self.id(pod.name()).netns(&netns).ifname("eth0")
    }

    /// `CNI_CONTAINERID`.
    pub fn id(self, id: &str) -> Call {
        self.env("CNI_CONTAINERID", id)
    }

    /// `CNI_NETNS`.
    pub fn netns(self, path: &str) -> Call {
        self.env("CNI_NETNS", path)
    }

    /// `CNI_IFNAME`.
    pub fn ifname(self, name: &str) -> Call {
        self.env("CNI_IFNAME", name)
    }

    /// `CNI_ARGS`.
    pub fn args(self, args: &str) -> Call {
        self.env("CNI_ARGS", args)
    }

    /// Any variable.
    pub fn env(mut self, key: &str, value: &str) -> Call {
        self.env.insert(key.into(), value.into());
        self
    }

    /// Without a variable that is otherwise set.
    pub fn without(mut self, key: &str) -> Call {
        self.env.remove(key);
        self
    }

    /// Another plugin than the configuration's `type`.
    pub fn program(mut self, kind: &str) -> Call {
        self.kind = kind.into();
        self
    }

    /// Other bytes on stdin than the configuration.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Call {
        self.stdin = bytes.into();
        self
    }

    /// Records its system calls (needs `strace`).
    pub fn traced(mut self) -> Call {
        self.traced = true;
        self
    }

    /// Makes one of its system calls fail (needs `strace`).
    pub fn fault(mut self, fault: Fault) -> Call {
        self.fault = Some(fault);
        self.traced()
    }

    /// Makes the call and kills it, wherever it is, after so long; whether it was still at it.
    pub fn send_and_kill(&self, after: Duration) -> Result<bool> {
        let mut command = self.node.command(self.program_file()?);
        let output = command
            .envs(&self.env)
            .stdin(self.stdin.clone())
            .deadline(after)
            .output();
        Ok(output.is_err())
    }

    /// Makes the call.
    pub fn send(&self) -> Result<Reply> {
        let program = self.program_file()?;
        if !self.traced {
            let mut command = self.node.command(&program);
            let output = command.envs(&self.env).stdin(self.stdin.clone()).output()?;
            return Ok(Reply::new(output, Trace::default()));
        }
        let log = strace::log_file();
        let mut command = self.node.command("strace");
        command
            .args(strace::arguments(&log, self.fault.as_ref()))
            .arg(&program);
        let output = command.envs(&self.env).stdin(self.stdin.clone()).output()?;
        let trace = self.node.run(|| Trace::take(&log))?;
        Ok(Reply::new(output, trace))
    }

    fn program_file(&self) -> Result<PathBuf> {
        let path = self
            .env
            .get("CNI_PATH")
            .map(String::as_str)
            .unwrap_or("/opt/cni/bin");
        let files = path.split(':').map(|dir| Path::new(dir).join(&self.kind));
        let found = self
            .node
            .run(|| files.into_iter().find(|file| file.exists()));
        found.with_context(|| format!("no plugin {} in {path} on {}", self.kind, self.node.name()))
    }
}
