//! The example configurations in `conf/`: each one, as it is shipped, carries packets and is taken away again.
use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use lab::inspect::{ip, sh};
use lab::probe::{TcpEcho, exchange, ping};
use lab::{Case, Need, Node, Plugins, Pod, Result, Snapshot, find};
use serde_json::Value;

/// A file, and its test.
type Example = (&'static str, fn() -> Result);

/// Every file of `conf/` that a runtime reads, and what shows that it works.
const EXAMPLES: [Example; 6] = [
    ("10-heddle.conflist", || routed("10-heddle.conflist", 1)),
    ("10-heddle-dual-stack.conflist", || {
        routed("10-heddle-dual-stack.conflist", 2)
    }),
    ("20-layer2.conflist", layer_2),
    ("30-static.conflist", fixed),
    ("90-reference-names.conflist", || {
        routed("90-reference-names.conflist", 1)
    }),
    ("99-loopback.conf", loopback),
];

fn main() -> ExitCode {
    let needs = [Need::HeddleCni, Need::Program("ip"), Need::Program("nft")];
    let examples = EXAMPLES.map(|(file, body)| Case::new(file, body).needs(needs));
    let whole = Case::new("every_example_has_a_case", every_example_has_a_case);
    lab::main(examples.into_iter().chain([whole]))
}

fn every_example_has_a_case() -> Result {
    let mut there = BTreeSet::new();
    for entry in fs::read_dir(find::workspace().join("conf"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if [".conf", ".conflist"]
            .iter()
            .any(|ending| name.ends_with(ending))
        {
            there.insert(name);
        }
    }
    let tested = EXAMPLES.map(|(file, _)| file.to_owned());
    assert_eq!(there, BTreeSet::from(tested));
    Ok(())
}

/// A node whose configuration directory holds nothing but one example, with two pods and the world outside.
struct Lab {
    node: Node,
    example: Value,
    pods: [Pod; 2],
    world: Pod,
}

impl Lab {
    fn new(file: &str) -> Result<Lab> {
        let node = Node::new("node")?;
        Plugins::heddle(&node)?;
        let text = fs::read_to_string(find::workspace().join("conf").join(file))?;
        node.run(|| fs::write(format!("/etc/cni/net.d/{file}"), &text))?;
        let pods = [node.pod("a")?, node.pod("b")?];
        let world = node.pod("world")?;
        // The world knows no way to the pods: it answers only what the node has masqueraded.
        sh(
            node.space(),
            "ip link add up0 type veth peer name eth0 netns world; ip link set up0 up
             ip address add 192.0.2.1/24 dev up0; ip address add 2001:db8::1/64 dev up0 nodad",
        )?;
        sh(
            world.space(),
            "ip link set eth0 up; ip address add 192.0.2.2/24 dev eth0; ip address add 2001:db8::2/64 dev eth0 nodad",
        )?;
        Ok(Lab {
            node,
            example: serde_json::from_str(&text).context(text)?,
            pods,
            world,
        })
    }

    /// The version that a runtime of today takes of the example.
    fn version(&self) -> &str {
        let newest = self.example["cniVersions"]
            .as_array()
            .and_then(|v| v.last());
        let version = newest.unwrap_or(&self.example["cniVersion"]);
        version.as_str().unwrap_or_default()
    }

    fn cnitool(&self, verb: &str, pod: &Pod) -> Result<String> {
        let mut command = self.node.command("/opt/cni/bin/heddle-cni");
        command
            .env("NETCONFPATH", "/etc/cni/net.d")
            .env("CNI_PATH", "/opt/cni/bin");
        let name = self.example["name"].as_str().context("no name")?;
        let netns = pod.netns().to_string_lossy();
        command.args(["cnitool", verb, name, &netns]).ok()
    }

    fn add(&self, pod: &Pod) -> Result<Value> {
        let result: Value = serde_json::from_str(&self.cnitool("add", pod)?)?;
        assert_eq!(result["cniVersion"], self.version());
        Ok(result)
    }

    /// Adds the pods, lets `works` see their results, checks and deletes them; the node and the pods are then what
    /// they were before. What the first attachment leaves on purpose to those after it is there before: the bridge
    /// with its gateway, the last address, and 127.0.0.1 on a `lo` that is down again.
    fn lives_and_dies(&self, pods: &[Pod], works: impl FnOnce(&[Value]) -> Result) -> Result {
        for pod in pods {
            self.add(pod)?;
            self.cnitool("del", pod)?;
        }
        let before = self.snapshots()?;
        self.cnitool("status", &pods[0])?;
        let results: Vec<Value> = pods
            .iter()
            .map(|pod| self.add(pod))
            .collect::<Result<_>>()?;
        ensure!(
            self.snapshots()?[1].same_as(&before[1]).is_err(),
            "ADD did nothing"
        );
        works(&results)?;
        for verb in ["check", "del", "del"] {
            for pod in pods {
                self.cnitool(verb, pod)?;
            }
        }
        for (now, before) in self.snapshots()?.iter().zip(&before) {
            now.same_as(before)?;
        }
        Ok(())
    }

    /// The node, and each of its pods.
    fn snapshots(&self) -> Result<Vec<Snapshot>> {
        let pods = self.pods.iter().map(Pod::space);
        let places = [self.node.space()].into_iter().chain(pods);
        places
            .map(|place| Ok(Snapshot::of(place)?.without(&["last_reserved_ip"])))
            .collect()
    }
}

/// The address of a result's `ips` entry, or its gateway.
fn address(result: &Value, index: usize, key: &str) -> Result<IpAddr> {
    let text = result["ips"][index][key].as_str();
    let text = text.with_context(|| format!("no {key} {index} in {result}"))?;
    Ok(text.split('/').next().unwrap_or_default().parse()?)
}

/// Pods of each family reach each other with their own addresses, the gateway, and the world with the node's.
fn routed(file: &str, families: usize) -> Result {
    let lab = Lab::new(file)?;
    lab.lives_and_dies(&lab.pods, |results| {
        let [a, b] = &lab.pods;
        for (index, outside) in ["192.0.2.2", "2001:db8::2"][..families].iter().enumerate() {
            ping(a.space(), address(&results[0], index, "gateway")?)?;
            let to = address(&results[1], index, "address")?;
            ping(a.space(), to)?;
            let server = TcpEcho::start(b.space(), (to, 0).into())?;
            let tcp = exchange(a.space(), server.address(), &[1; 100_000])?;
            assert_eq!(tcp.seen, tcp.local, "a pod sees the pod");
            let outside: IpAddr = outside.parse()?;
            let server = TcpEcho::start(lab.world.space(), (outside, 0).into())?;
            exchange(a.space(), server.address(), b"hello")?;
        }
        assert_eq!(results[0]["ips"].as_array().map(Vec::len), Some(families));
        Ok(())
    })
}

/// A cable and a switch: the pods give themselves addresses, and nothing of the node is in their way.
fn layer_2() -> Result {
    let lab = Lab::new("20-layer2.conflist")?;
    lab.lives_and_dies(&lab.pods, |_| {
        let [a, b] = &lab.pods;
        for (pod, own) in [(a, "10.20.0.1"), (b, "10.20.0.2")] {
            sh(pod.space(), &format!("ip address add {own}/24 dev eth0"))?;
        }
        ping(a.space(), "10.20.0.2".parse()?)?;
        let server = TcpEcho::start(b.space(), "10.20.0.2:0".parse()?)?;
        exchange(a.space(), server.address(), &[1; 100_000])?;
        let on_bridge = ip(lab.node.space(), "-4 address show dev lan0")?;
        ensure!(on_bridge.is_empty(), "the node took part: {on_bridge:?}");
        Ok(())
    })
}

/// One pod with the address that the file names; there can be no second.
fn fixed() -> Result {
    let lab = Lab::new("30-static.conflist")?;
    lab.lives_and_dies(&lab.pods[..1], |results| {
        let pod = lab.pods[0].space();
        assert_eq!(results[0]["ips"][0]["address"], "10.33.0.5/24");
        ping(pod, "10.33.0.1".parse()?)?;
        ping(lab.node.space(), "10.33.0.5".parse()?)?;
        // By the default route, to an address of the node outside the pod's network.
        ping(pod, "192.0.2.1".parse()?).map(drop)
    })
}

fn loopback() -> Result {
    let lab = Lab::new("99-loopback.conf")?;
    lab.lives_and_dies(&lab.pods, |_| {
        for pod in &lab.pods {
            ping(pod.space(), "127.0.0.1".parse()?)?;
            ping(pod.space(), "::1".parse()?)?;
        }
        Ok(())
    })
}
