//! Throw-away pods: a network namespace and an attachment each, made and removed as a runtime does it.

use std::net::IpAddr;
use std::path::PathBuf;

use cni::Attachment;
use cni::runtime::{Conflist, Runtime, RuntimeConf};
use netlink::netns::Netns;

use crate::config::Config;
use crate::{conflist, runtime};

/// Always the same names: what an interrupted check has left is removed by the next one.
const NAMES: [&str; 2] = ["heddle-check-1", "heddle-check-2"];
/// Where named namespaces are, as for `ip netns`.
const NETNS_DIR: &str = "/run/netns";

/// A pod.
#[derive(Debug)]
pub(super) struct TestPod {
    netns: Netns,
    attachment: RuntimeConf,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The node's addresses that it goes out by.
    pub gateways: Vec<IpAddr>,
}

/// Both, with what removes them.
#[derive(Debug)]
pub(super) struct TestPods {
    runtime: Runtime,
    list: Conflist,
    pods: Vec<TestPod>,
}

/// Makes them by the daemon's conflist.
pub(super) fn make(config: &Config) -> Result<TestPods, String> {
    let path = conflist::Conflist::new(config).path();
    let list =
        Conflist::load(&path).map_err(|error| format!("cannot use {}: {error}", path.display()))?;
    let mut pods = TestPods {
        runtime: runtime::local(),
        list,
        pods: Vec::new(),
    };
    pods.clear()?;
    for name in NAMES {
        pods.add(name)?;
    }
    Ok(pods)
}

fn attachment(name: &str) -> RuntimeConf {
    RuntimeConf {
        attachment: Attachment {
            container_id: name.to_owned(),
            ifname: "eth0".to_owned(),
        },
        netns: Some(PathBuf::from(NETNS_DIR).join(name)),
        ..RuntimeConf::default()
    }
}

impl TestPods {
    fn add(&mut self, name: &str) -> Result<(), String> {
        let attachment = attachment(name);
        let path = attachment.netns.clone().unwrap_or_default();
        let netns = Netns::create(&path).map_err(|error| error.to_string())?;
        let added = self.runtime.add(&self.list, &attachment);
        let result = added.map_err(|error| format!("no pod can be made on this node: {error}"))?;
        self.pods.push(TestPod {
            netns,
            attachment,
            addresses: result.ips.iter().map(|ip| ip.address.ip()).collect(),
            gateways: result.ips.iter().filter_map(|ip| ip.gateway).collect(),
        });
        Ok(())
    }

    /// Both pods.
    pub fn each(&self) -> [&TestPod; 2] {
        [&self.pods[0], &self.pods[1]]
    }

    /// Removes them, and says whether that went well.
    pub fn remove(mut self) -> Result<(), String> {
        self.pods.clear();
        self.clear()
    }

    fn clear(&self) -> Result<(), String> {
        let mut failures = Vec::new();
        for name in NAMES {
            let mut gone = attachment(name);
            let path = gone.netns.take().unwrap_or_default();
            let deleted = self.runtime.del(&self.list, &gone);
            failures.extend(deleted.err().map(|error| error.to_string()));
            failures.extend(Netns::remove(&path).err().map(|error| error.to_string()));
        }
        match failures.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "the pods of the check cannot be removed: {}",
                failures.join("; ")
            )),
        }
    }
}

impl Drop for TestPods {
    fn drop(&mut self) {
        // Told by `remove`; this is for those who leave early.
        let _ = self.clear();
    }
}

impl TestPod {
    /// Its namespace, as `heddle trace` takes it.
    pub fn path(&self) -> String {
        let path = self.attachment.netns.clone().unwrap_or_default();
        path.display().to_string()
    }

    /// Does something in the pod's network namespace.
    pub fn inside<T>(&self, what: impl FnOnce() -> T) -> Result<T, String> {
        self.netns.run(what).map_err(|error| error.to_string())
    }
}
