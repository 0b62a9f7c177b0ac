//! What every plugin that attaches a pod is held to: DEL in every condition, a failing ADD that leaves nothing, GC,
//! and a place to do that in.
use std::net::{IpAddr, SocketAddr};
use std::panic::resume_unwind;

use anyhow::{Context, ensure};
use lab::inspect::sh;
use lab::probe::{Exchange, TcpEcho, exchange};
use lab::{Call, Node, Plugins, Pod, Result, Snapshot, Space, conf, with_prev};
use serde_json::{Value, json};

/// A node, its neighbour on `up0`, and the plugins.
pub struct Place {
    /// The node; 192.0.2.1 and 2001:db8::1 on `up0`.
    pub node: Node,
    /// Heddle's plugins on it.
    pub plugins: Plugins,
    /// The neighbour, 192.0.2.2 and 2001:db8::2, whose default route is the node.
    pub world: Pod,
}

/// IPAM on the wire that node and neighbour share.
pub fn on_the_wire() -> Value {
    json!({"type": "host-local", "ranges": [
        [{"subnet": "192.0.2.0/24", "rangeStart": "192.0.2.10", "rangeEnd": "192.0.2.200"}],
        [{"subnet": "2001:db8::/64", "rangeStart": "2001:db8::10", "rangeEnd": "2001:db8::ff"}],
    ]})
}

impl Place {
    /// A node that has never seen a pod.
    pub fn new() -> Result<Place> {
        let node = Node::new("node")?;
        let world = node.pod("world")?;
        sh(
            node.space(),
            "ip link add up0 type veth peer name eth0 netns world\n\
             ip link set up0 up; ip address add 192.0.2.1/24 dev up0; ip address add 2001:db8::1/64 dev up0 nodad",
        )?;
        sh(
            world.space(),
            "ip link set lo up; ip link set eth0 up\n\
             ip address add 192.0.2.2/24 dev eth0; ip address add 2001:db8::2/64 dev eth0 nodad\n\
             ip route add default via 192.0.2.1; ip route add default via 2001:db8::1",
        )?;
        let plugins = Plugins::heddle(&node)?;
        Ok(Place {
            node,
            plugins,
            world,
        })
    }

    /// The same with the reference's plugins.
    pub fn with_reference() -> Result<Place> {
        let place = Place::new()?;
        let plugins = Plugins::reference(&place.node);
        Ok(Place { plugins, ..place })
    }

    /// A new pod that the plugin has attached, and what it printed.
    pub fn attach(&self, conf: &Value, name: &str) -> Result<(Pod, Value)> {
        let pod = self.node.pod(name)?;
        let result = self.plugins.add(conf, &pod)?.result()?;
        Ok((pod, result))
    }

    /// ADD that fails, and changes neither the node nor the pod.
    pub fn refused(&self, conf: &Value, name: &str) -> Result<(u64, String)> {
        let pod = self.node.pod(name)?;
        let before = self.state(&pod)?;
        let failure = self.plugins.add(conf, &pod)?.failure()?;
        self.same(&pod, &before)?;
        pod.unmount(false)?;
        Ok(failure)
    }

    /// The node without what an ADD may leave: directories and locks, which address was last, forwarding.
    pub fn snapshot(&self) -> Result<Snapshot> {
        const LEFT: [&str; 11] = [
            // What the kernel adds when IPv6 is done with an address.
            "\"table\":\"local\"",
            "/run/netns",
            "lab-strace",
            "last_reserved_ip",
            "/lock ",
            "networks/ ",
            "networks/lab/ ",
            ".heddle/ ",
            ".heddle/lab/ ",
            "forwarding",
            "ip_forward",
        ];
        Ok(Snapshot::of(self.node.space())?.without(&LEFT))
    }

    /// Node and pod.
    pub fn state(&self, pod: &Pod) -> Result<(Snapshot, Snapshot)> {
        Ok((self.snapshot()?, inside(pod)?))
    }

    /// Fails if node or pod are not as they were.
    pub fn same(&self, pod: &Pod, before: &(Snapshot, Snapshot)) -> Result {
        self.snapshot()?.same_as(&before.0)?;
        inside(pod)?.same_as(&before.1).context("in the pod")
    }

    /// DEL with the namespace there, empty, gone or a plain file, or the link gone; with what the runtime knew, without,
    /// and with a configuration that ADD would refuse; twice each.
    pub fn del_in_every_condition(&self, conf: &Value, broken: &Value) -> Result {
        self.attach(conf, "stays")?;
        let before = self.snapshot()?;
        for condition in ["present", "empty", "missing", "file", "link gone"] {
            for knowledge in ["result", "nothing", "nonsense"] {
                let name = format!("{condition}-{knowledge}").replace(' ', "-");
                let (pod, result) = self.attach(conf, &name)?;
                ensure!(self.snapshot()? != before, "ADD did nothing");
                let conf = match knowledge {
                    "result" => with_prev(conf, &result),
                    "nothing" => conf.clone(),
                    _ => broken.clone(),
                };
                let path = pod.netns().to_string_lossy().into_owned();
                match condition {
                    "missing" => pod.unmount(false)?,
                    "file" => pod.unmount(true)?,
                    "link gone" => sh(pod.space(), "ip link delete eth0").map(drop)?,
                    _ => {}
                }
                let netns = if condition == "empty" { "" } else { &path };
                for time in ["first", "second"] {
                    let call = self.plugins.call("DEL", &conf).pod(&pod).netns(netns);
                    let reply = call.send()?;
                    reply
                        .done()
                        .with_context(|| format!("{name}, {time} DEL"))?;
                    ensure!(reply.output.stdout.is_empty(), "DEL prints nothing");
                }
                self.snapshot()?
                    .same_as(&before)
                    .with_context(|| name.clone())?;
                if condition == "present" {
                    let links = lab::inspect::ip(pod.space(), "link show")?;
                    ensure!(links.len() == 1, "{name}: left in the pod: {links:?}");
                }
            }
        }
        Ok(())
    }

    /// ADD of two dozen pods at once, then three DELs of each at once.
    pub fn many_at_once(&self, conf: &Value) -> Result {
        let before = self.snapshot()?;
        let pods = (0..24).map(|number| self.node.pod(&format!("p{number}")));
        let pods: Vec<_> = pods.collect::<Result<_>>()?;
        for verbs in [&["ADD"][..], &["DEL"; 3]] {
            let calls: Vec<Call> = pods
                .iter()
                .flat_map(|pod| {
                    verbs
                        .iter()
                        .map(|verb| self.plugins.call(verb, conf).pod(pod))
                })
                .collect();
            std::thread::scope(|scope| -> Result {
                let threads: Vec<_> = calls
                    .iter()
                    .map(|call| scope.spawn(|| call.send()))
                    .collect();
                for thread in threads {
                    let reply = thread.join().unwrap_or_else(|panic| resume_unwind(panic))?;
                    reply.done().context(verbs[0])?;
                }
                Ok(())
            })?;
        }
        self.snapshot()?.same_as(&before)
    }

    /// ADD with each of its system calls failing in its turn: it changes nothing, or all, and a retry works. Nothing is
    /// started by it.
    pub fn add_with_each_call_failing(&self, conf: &Value) -> Result {
        const FAULTS: [(&str, &str); 10] = [
            ("sendto", "ENOBUFS"),
            ("socket", "EMFILE"),
            ("open", "EIO"),
            ("ioctl", "EPERM"),
            ("write", "ENOSPC"),
            ("linkat", "ENOSPC"),
            ("symlink", "ENOSPC"),
            ("mkdir", "EACCES"),
            ("setns", "EPERM"),
            ("unshare", "EPERM"),
        ];
        // What is made once for all pods is there already.
        let (first, _) = self.attach(conf, "first")?;
        self.plugins.del(conf, &first)?.done()?;
        let pod = self.node.pod("x")?;
        let call = self.plugins.call("ADD", conf).pod(&pod);
        let traced = call.clone().traced().send()?;
        traced.done()?;
        ensure!(
            (traced.trace.programs(), traced.trace.forks()) == (0, 0),
            "ADD started something: {:#?}",
            traced.trace.lines()
        );
        self.plugins.del(conf, &pod)?.done()?;
        let before = self.state(&pod)?;
        for fault in traced.trace.faults(&FAULTS) {
            let what = || fault.to_string();
            let reply = call.clone().fault(fault.clone()).send()?;
            if reply.is_success() {
                let result = reply.result().with_context(what)?;
                self.plugins
                    .check(conf, &pod, &result)?
                    .done()
                    .with_context(what)?;
                self.plugins.del(conf, &pod)?.done().with_context(what)?;
            } else if !reply.output.stdout.is_empty() {
                let (code, message) = reply.failure().with_context(what)?;
                ensure!(!message.contains("panick"), "{code}: {message}");
            }
            self.same(&pod, &before).with_context(what)?;
        }
        let result = self.plugins.add(conf, &pod)?.result()?;
        self.plugins.check(conf, &pod, &result)?.done()?;
        self.plugins.del(conf, &pod)?.done()
    }

    /// GC frees what the list of the valid does not name, of this network only, and without a list nothing.
    pub fn gc(&self, conf: &Value, stale_lines: &[&str]) -> Result {
        let other = conf::with(
            conf.clone(),
            json!({"name": "other", "ipam": {
                "type": "host-local", "subnet": "10.99.0.0/24",
            }}),
        );
        let (live, result) = self.attach(conf, "live")?;
        self.attach(&other, "elsewhere")?;
        let before = self.snapshot()?.without(stale_lines);
        for name in ["stale1", "stale2"] {
            self.attach(conf, name)?;
        }
        let full = self.snapshot()?;
        ensure!(
            full.clone().without(stale_lines) != before,
            "ADD did nothing"
        );
        self.plugins.call("GC", conf).send()?.done()?;
        self.snapshot()?.same_as(&full)?;
        for _ in 0..2 {
            self.plugins.gc(conf, &[("live", "eth0")])?.done()?;
            self.snapshot()?.without(stale_lines).same_as(&before)?;
        }
        self.plugins.check(conf, &live, &result)?.done()
    }

    /// Each piece of damage, done to a place by a line of shell, is seen by CHECK, which changes nothing.
    pub fn check_sees(&self, conf: &Value, damages: &[(bool, &str)]) -> Result {
        for (number, (in_pod, damage)) in damages.iter().enumerate() {
            let name = format!("damaged{number}");
            let (pod, result) = self.attach(conf, &name)?;
            self.plugins.check(conf, &pod, &result)?.done()?;
            let link = result["interfaces"][0]["name"].as_str().unwrap_or_default();
            let damage = damage.replace("HOST", link);
            sh(
                if *in_pod {
                    pod.space()
                } else {
                    self.node.space()
                },
                &damage,
            )?;
            let before = self.state(&pod)?;
            self.plugins
                .check(conf, &pod, &result)?
                .failure()
                .with_context(|| damage.clone())?;
            self.same(&pod, &before)?;
            self.plugins.del(conf, &pod)?.done()?;
        }
        Ok(())
    }
}

/// Something that the reference does wrong: what, and a test of it.
pub type Defect = (&'static str, fn(&Place) -> Result);

/// Each defect fails with the reference's plugins, and not with ours.
pub fn against_the_reference(defects: &[Defect]) -> Result {
    for (what, test) in defects {
        test(&Place::new()?).context(*what)?;
        let theirs = test(&Place::with_reference()?);
        ensure!(theirs.is_err(), "the reference does this right: {what}");
    }
    Ok(())
}

/// The pod without what the kernel changes by itself when IPv6 wakes up.
fn inside(pod: &Pod) -> Result<Snapshot> {
    Ok(Snapshot::of(pod.space())?.without(&["/run", "/var", "conf/lo/", "\"table\":\"local\""]))
}

/// The `index`-th address of a result.
pub fn address(result: &Value, index: usize) -> Result<IpAddr> {
    let text = result["ips"][index]["address"].as_str();
    let text = text.context("no address")?.split('/').next();
    Ok(text.unwrap_or_default().parse()?)
}

/// A TCP exchange from one place with a server on an address of another.
pub fn reach(from: &Space, server: &Space, at: IpAddr) -> Result<Exchange> {
    let echo = TcpEcho::start(server, SocketAddr::new(at, 0))?;
    exchange(from, echo.address(), b"some bytes")
        .with_context(|| format!("{} to {at}", from.name()))
}
