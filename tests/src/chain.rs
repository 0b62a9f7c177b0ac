//! A pod on a bridge with another plugin chained behind: what every such plugin is held to.
use std::net::IpAddr;
use std::panic::resume_unwind;
use std::thread;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::inspect::sh;
use crate::{Node, Plugins, Pod, Result, Snapshot, conf, with_prev};

/// A node, the world beyond it, which knows the way to the pods, and the plugins.
#[derive(Debug)]
pub struct Chain {
    /// The node.
    pub node: Node,
    /// Heddle's plugins on it.
    pub plugins: Plugins,
    /// The world.
    pub world: Pod,
    bridge: Value,
}

/// The world beyond a node, at 192.0.2.2 and 2001:db8::2; the node gets 192.0.2.1 and 2001:db8::1 on `up0`.
pub fn world(node: &Node) -> Result<Pod> {
    let world = node.pod("world")?;
    sh(
        node.space(),
        "ip link add up0 type veth peer name eth0 netns world\n\
         ip link set up0 up; ip address add 192.0.2.1/24 dev up0; ip address add 2001:db8::1/64 dev up0 nodad",
    )?;
    sh(
        world.space(),
        "ip link set lo up; ip link set eth0 up\n\
         ip address add 192.0.2.2/24 dev eth0; ip address add 2001:db8::2/64 dev eth0 nodad",
    )?;
    Ok(world)
}

/// A pod that the bridge has attached.
#[derive(Debug)]
pub struct Attached {
    /// The pod.
    pub pod: Pod,
    /// What the bridge gave.
    pub result: Value,
}

impl Attached {
    /// The pod's address: the first is IPv4, the second IPv6.
    pub fn address(&self, index: usize) -> Result<IpAddr> {
        let text = self.result["ips"][index]["address"].as_str();
        let text = text.context("no address")?.split('/').next();
        Ok(text.unwrap_or_default().parse()?)
    }

    /// The name of the pod's link on the host.
    pub fn host_link(&self) -> Result<&str> {
        self.result["interfaces"][1]["name"]
            .as_str()
            .context("no host link")
    }
}

impl Chain {
    /// A node whose bridge has been up before, so that what it leaves on purpose is there already.
    pub fn new() -> Result<Chain> {
        let node = Node::new("node")?;
        let world = world(&node)?;
        sh(
            world.space(),
            "ip route add 10.88.0.0/24 via 192.0.2.1; ip route add fd88::/64 via 2001:db8::1",
        )?;
        let plugins = Plugins::heddle(&node)?;
        let bridge = conf::bridge(
            json!({"isDefaultGateway": true, "hairpinMode": true, "ipam": conf::dual_stack()}),
        );
        let chain = Chain {
            node,
            plugins,
            world,
            bridge,
        };
        let first = chain.attach("first")?;
        chain.plugins.del(&chain.bridge, &first.pod)?.done()?;
        Ok(chain)
    }

    /// A new pod on the bridge.
    pub fn attach(&self, name: &str) -> Result<Attached> {
        let pod = self.node.pod(name)?;
        let result = self.plugins.add(&self.bridge, &pod)?.result()?;
        Ok(Attached { pod, result })
    }

    /// Takes a pod off the bridge.
    pub fn detach(&self, attached: &Attached) -> Result {
        self.plugins.del(&self.bridge, &attached.pod)?.done()
    }

    /// ADD of the chained plugin for a pod, and what it printed.
    pub fn add(&self, conf: &Value, to: &Attached) -> Result<Value> {
        self.plugins
            .add(&with_prev(conf, &to.result), &to.pod)?
            .result()
    }

    /// The failure of an ADD that has to fail and to change nothing.
    pub fn refused(&self, conf: &Value, to: &Attached) -> Result<(u64, String)> {
        let before = self.snapshot()?;
        let failure = self
            .plugins
            .add(&with_prev(conf, &to.result), &to.pod)?
            .failure()?;
        self.snapshot()?.same_as(&before)?;
        Ok(failure)
    }

    /// DEL of the chained plugin for a pod.
    pub fn del(&self, conf: &Value, to: &Attached) -> Result {
        self.plugins
            .del(&with_prev(conf, &to.result), &to.pod)?
            .done()
    }

    /// CHECK of the chained plugin for a pod.
    pub fn check(&self, conf: &Value, to: &Attached) -> Result {
        self.plugins.check(conf, &to.pod, &to.result)?.done()
    }

    /// CHECK of the bridge for a pod, against what the whole chain gave.
    pub fn check_bridge(&self, to: &Attached, result: &Value) -> Result {
        self.plugins.check(&self.bridge, &to.pod, result)?.done()
    }

    /// What CHECK says is wrong.
    pub fn complaint(&self, conf: &Value, to: &Attached) -> Result<String> {
        Ok(self.plugins.check(conf, &to.pod, &to.result)?.failure()?.1)
    }

    /// The node without what tells pods apart that are only there.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let snapshot = Snapshot::of(self.node.space())?;
        Ok(snapshot.without(&["/run/netns", "lab-strace", "last_reserved_ip"]))
    }

    /// DEL with the namespace there, empty, gone or a plain file, with and without what the runtime knew; twice.
    pub fn del_in_every_condition(&self, conf: &Value) -> Result {
        let mut bare = conf.clone();
        if let Some(keys) = bare.as_object_mut() {
            keys.remove("runtimeConfig");
        }
        for condition in ["present", "empty", "missing", "file"] {
            for with_result in [true, false] {
                let name = format!("{condition}-{with_result}");
                let attached = self.attach(&name)?;
                let before = (self.snapshot()?, Snapshot::of(attached.pod.space())?);
                self.add(conf, &attached)?;
                let after = (self.snapshot()?, Snapshot::of(attached.pod.space())?);
                ensure!(before != after, "ADD did nothing");
                let path = attached.pod.netns().to_string_lossy().into_owned();
                match condition {
                    "missing" => attached.pod.unmount(false)?,
                    "file" => attached.pod.unmount(true)?,
                    _ => {}
                }
                let netns = if condition == "empty" { "" } else { &path };
                let conf = match with_result {
                    true => with_prev(conf, &attached.result),
                    false => bare.clone(),
                };
                for time in ["first", "second"] {
                    let call = self.plugins.call("DEL", &conf).pod(&attached.pod);
                    let reply = call.netns(netns).send()?;
                    reply
                        .done()
                        .with_context(|| format!("{name}, {time} DEL"))?;
                    ensure!(reply.output.stdout.is_empty(), "DEL prints nothing");
                }
                self.snapshot()?
                    .same_as(&before.0)
                    .with_context(|| name.clone())?;
                if condition == "present" {
                    Snapshot::of(attached.pod.space())?
                        .same_as(&before.1)
                        .with_context(|| format!("{name}, in the pod"))?;
                }
                let call = self.plugins.call("DEL", &self.bridge).pod(&attached.pod);
                call.netns("").send()?.done()?;
            }
        }
        Ok(())
    }

    /// ADD, CHECK and DEL for two dozen pods at once, three times; the configuration goes by the pod's number.
    pub fn many_at_once(&self, conf: impl Fn(u16) -> Value) -> Result {
        let pods = (0..24).map(|number| self.attach(&format!("p{number}")));
        let pods: Vec<_> = pods.collect::<Result<_>>()?;
        let before = self.snapshot()?;
        for verb in ["ADD", "CHECK", "DEL"].repeat(3) {
            let calls = (0..).zip(&pods).map(|(number, attached)| {
                let conf = with_prev(&conf(number), &attached.result);
                self.plugins.call(verb, &conf).pod(&attached.pod)
            });
            let calls: Vec<_> = calls.collect();
            thread::scope(|scope| -> Result {
                let threads: Vec<_> = calls
                    .iter()
                    .map(|call| scope.spawn(|| call.send()))
                    .collect();
                for thread in threads {
                    let reply = thread.join().unwrap_or_else(|panic| resume_unwind(panic))?;
                    reply.done().context(verb)?;
                }
                Ok(())
            })?;
            if verb == "DEL" {
                self.snapshot()?.same_as(&before)?;
            }
        }
        Ok(())
    }

    /// ADD with each of its system calls failing in its turn: it changes nothing, or all, and a retry works. None of
    /// them starts anything.
    pub fn add_with_each_call_failing(&self, conf: &Value) -> Result {
        const FAULTS: [(&str, &str); 6] = [
            ("sendto", "ENOBUFS"),
            ("socket", "EMFILE"),
            ("open", "EIO"),
            ("write", "ENOSPC"),
            ("setns", "EPERM"),
            ("mkdir", "EACCES"),
        ];
        let attached = self.attach("x")?;
        let with_result = with_prev(conf, &attached.result);
        let call = self.plugins.call("ADD", &with_result).pod(&attached.pod);
        let traced = call.clone().traced().send()?;
        traced.done()?;
        ensure!(
            (traced.trace.programs(), traced.trace.forks()) == (0, 0),
            "ADD started something: {:#?}",
            traced.trace.lines()
        );
        self.del(conf, &attached)?;
        let before = (self.snapshot()?, Snapshot::of(attached.pod.space())?);
        for fault in traced.trace.faults(&FAULTS) {
            let what = || fault.to_string();
            let reply = call.clone().fault(fault.clone()).send()?;
            if reply.is_success() {
                self.check(conf, &attached).with_context(what)?;
                self.del(conf, &attached).with_context(what)?;
            } else if !reply.output.stdout.is_empty() {
                let (code, message) = reply.failure().with_context(what)?;
                ensure!(!message.contains("panick"), "{code}: {message}");
            }
            self.snapshot()?.same_as(&before.0).with_context(what)?;
            Snapshot::of(attached.pod.space())?
                .same_as(&before.1)
                .with_context(what)?;
        }
        self.add(conf, &attached)?;
        self.check(conf, &attached)?;
        self.del(conf, &attached)
    }
}
