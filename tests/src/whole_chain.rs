//! The chain as clusters have it, every plugin of it called as a runtime calls it: what is attached, taken off, collected
//! and compared is the whole of it.
use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::inspect::sh;
use crate::{Call, Need, Node, Plugins, Pod, Result, Snapshot, conf, with_prev};

/// What the chain needs of the machine.
pub const NEEDS: [Need; 6] = [
    Need::HeddleCni,
    Need::Program("ip"),
    Need::Program("nft"),
    Need::Program("iptables"),
    Need::Link("ifb"),
    Need::Qdisc("tbf"),
];

/// A node with bridge, portmap, firewall, bandwidth and tuning in a row, both families, all of their options on.
#[derive(Clone, Debug)]
pub struct WholeChain {
    /// The node.
    pub node: Node,
    /// Heddle's plugins on it.
    pub plugins: Plugins,
    /// The plugins' configurations, in order.
    pub confs: Vec<Value>,
}

/// The sysctl of the pod that the chain's `tuning` changes.
const SYSCTL: &str = "/proc/sys/net/core/somaxconn";

impl WholeChain {
    /// The chain on a node that has had a pod before, so that what stays there on purpose is there. `ipam` gives the
    /// addresses; [`conf::dual_stack`] will do.
    pub fn new(ipam: Value) -> Result<WholeChain> {
        let node = Node::new("node")?;
        let plugins = Plugins::heddle(&node)?;
        let chain = WholeChain::on(&plugins, ipam)?;
        let rules = crate::inspect::ruleset(chain.node.space())?;
        ensure!(!rules.contains("heddle"), "rules without a pod:\n{rules}");
        Ok(chain)
    }

    /// The same on a node that has our plugins already.
    pub fn on(plugins: &Plugins, ipam: Value) -> Result<WholeChain> {
        let node = plugins.node().clone();
        sh(
            node.space(),
            "iptables -P FORWARD DROP; ip6tables -P FORWARD DROP",
        )?;
        let chain = WholeChain {
            node,
            plugins: plugins.clone(),
            confs: confs(&ipam),
        };
        let first = chain.node.pod("first")?;
        chain.add(&first)?;
        chain.del(&first, None)?;
        first.unmount(false)?;
        Ok(chain)
    }

    /// One plugin's call for a pod, with what the plugin before it printed.
    pub fn call(&self, verb: &str, plugin: usize, pod: &Pod, previous: Option<&Value>) -> Call {
        let conf = &self.confs[plugin];
        let conf = previous.map_or_else(|| conf.clone(), |result| with_prev(conf, result));
        self.plugins.call(verb, &conf).pod(pod)
    }

    /// ADD of all plugins, and what the last of them printed.
    pub fn add(&self, pod: &Pod) -> Result<Value> {
        self.add_up_to(self.confs.len(), pod)?.context("no plugins")
    }

    /// ADD of the first plugins only.
    pub fn add_up_to(&self, plugins: usize, pod: &Pod) -> Result<Option<Value>> {
        let mut result = None;
        for plugin in 0..plugins {
            let reply = self.call("ADD", plugin, pod, result.as_ref()).send()?;
            let what = || self.what("ADD", plugin, pod);
            result = Some(reply.result().with_context(what)?);
        }
        Ok(result)
    }

    /// DEL of all plugins, the last first, with what the runtime has kept of ADD.
    pub fn del(&self, pod: &Pod, result: Option<&Value>) -> Result {
        self.del_down_from(self.confs.len(), pod, result)
    }

    /// DEL of the first plugins only, the last of them first.
    pub fn del_down_from(&self, plugins: usize, pod: &Pod, result: Option<&Value>) -> Result {
        for plugin in (0..plugins).rev() {
            let reply = self.call("DEL", plugin, pod, result).send()?;
            reply
                .done()
                .with_context(|| self.what("DEL", plugin, pod))?;
        }
        Ok(())
    }

    /// One plugin's DEL after ADD of the whole chain and DEL of those behind it.
    pub fn del_after_add(&self, plugin: usize, pod: &Pod) -> Result<Call> {
        let result = self.add(pod)?;
        for later in (plugin + 1..self.confs.len()).rev() {
            let reply = self.call("DEL", later, pod, Some(&result)).send()?;
            reply.done().with_context(|| self.what("DEL", later, pod))?;
        }
        Ok(self.call("DEL", plugin, pod, Some(&result)))
    }

    /// CHECK of all plugins against what ADD gave.
    pub fn check(&self, pod: &Pod, result: &Value) -> Result {
        for plugin in 0..self.confs.len() {
            let reply = self.call("CHECK", plugin, pod, Some(result)).send()?;
            reply
                .done()
                .with_context(|| self.what("CHECK", plugin, pod))?;
        }
        Ok(())
    }

    /// GC of all plugins, where these container ids are still valid.
    pub fn gc(&self, valid: &[&str]) -> Result {
        for plugin in 0..self.confs.len() {
            self.gc_call(plugin, valid)
                .send()?
                .done()
                .with_context(|| format!("GC of {}", self.confs[plugin]["type"]))?;
        }
        Ok(())
    }

    /// One plugin's GC.
    pub fn gc_call(&self, plugin: usize, valid: &[&str]) -> Call {
        let mut conf = self.confs[plugin].clone();
        conf["cni.dev/valid-attachments"] = valid
            .iter()
            .map(|id| json!({"containerID": id, "ifname": "eth0"}))
            .collect();
        self.plugins.call("GC", &conf)
    }

    /// What of the node CNI could leave behind; not what it leaves on purpose (which address came last), and not which
    /// pods there are.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Ok(Snapshot::of(self.node.space())?.without(&[
            "/run/netns",
            "lab-strace",
            "last_reserved_ip",
        ]))
    }

    /// Fails unless the pod is as a runtime makes it.
    pub fn is_untouched(&self, pod: &Pod) -> Result {
        let (links, queue) = pod.run(|| -> Result<(usize, String)> {
            let links = std::fs::read_to_string("/proc/thread-self/net/dev")?;
            Ok((links.lines().count() - 2, std::fs::read_to_string(SYSCTL)?))
        })?;
        ensure!(links == 1, "{} is left with {links} links", pod.name());
        ensure!(
            queue.trim() != "500",
            "{} is left with a changed sysctl",
            pod.name()
        );
        Ok(())
    }

    fn what(&self, verb: &str, plugin: usize, pod: &Pod) -> String {
        format!(
            "{verb} of {} for {}",
            self.confs[plugin]["type"],
            pod.name()
        )
    }
}

/// The plugins in order. The host port is one of the address's own, so that pods do not compete for it.
fn confs(ipam: &Value) -> Vec<Value> {
    let plugin = |kind: &str, keys: Value| {
        let head = json!({"cniVersion": "1.1.0", "name": "lab", "type": kind});
        conf::with(head, keys)
    };
    let mapping =
        |protocol: &str| json!({"hostPort": 8080, "containerPort": 80, "protocol": protocol});
    let rate = 100_000_000;
    vec![
        conf::bridge(json!({
            "isDefaultGateway": true, "ipMasq": true, "macspoofchk": true, "hairpinMode": true, "ipam": ipam,
        })),
        plugin(
            "portmap",
            json!({"runtimeConfig": {"portMappings": [mapping("tcp"), mapping("udp")]}}),
        ),
        plugin("firewall", json!({"ingressPolicy": "same-bridge"})),
        plugin(
            "bandwidth",
            json!({"ingressRate": rate, "ingressBurst": rate, "egressRate": rate, "egressBurst": rate}),
        ),
        plugin(
            "tuning",
            json!({"mtu": 1400, "sysctl": {"net.core.somaxconn": "500"}}),
        ),
    ]
}

/// Puts the pod's sysctl back, for a pod that goes on after it was collected.
pub fn reset(pod: &Pod) -> Result {
    Ok(pod.run(|| std::fs::write(SYSCTL, "4096"))?)
}
