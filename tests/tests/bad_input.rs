//! Bad input: one clear sentence with key, value and remedy, the right code, nothing changed on the host.
use std::process::ExitCode;

use lab::inspect::sh;
use lab::{Case, Need, Node, Plugins, Result, Snapshot, conf};
use serde_json::{Value, json};

fn main() -> ExitCode {
    let needs = [Need::HeddleCni, Need::Program("ip"), Need::Program("nft")];
    let case = |name, body| Case::new(name, body).needs(needs);
    lab::main([
        case(
            "configurations_that_cannot_be",
            configurations_that_cannot_be,
        ),
        case("environments_that_cannot_be", environments_that_cannot_be),
        case(
            "stdin_that_is_no_configuration",
            stdin_that_is_no_configuration,
        ),
        case("addresses_that_are_taken", addresses_that_are_taken),
        case("every_answer_is_one_document", every_answer_is_one_document),
    ])
}

/// Code and parts of the message that a bad configuration must give.
struct Expected(Value, u64, &'static [&'static str]);

fn configurations_that_cannot_be() -> Result {
    let ranges = |range: Value| json!({"ipam": {"type": "host-local", "ranges": [[range]]}});
    let cases = [
        Expected(json!({"isGateway": "true"}), 7, &["isGateway", "true"]),
        Expected(json!({"mtu": "big"}), 7, &["mtu", "big"]),
        Expected(json!({"mtu": 10}), 7, &["\"mtu\": 10", "68 to 65535"]),
        Expected(
            json!({"bridge": "a-name-of-16-byt"}),
            7,
            &["\"bridge\"", "a-name-of-16-byt", "15"],
        ),
        Expected(json!({"bridge": "a/b"}), 7, &["\"bridge\"", "a/b"]),
        Expected(
            json!({"hairpinMode": true, "promiscMode": true}),
            7,
            &["hairpinMode", "promiscMode"],
        ),
        Expected(json!({"vlan": 5000}), 7, &["\"vlan\": 5000", "4094"]),
        Expected(
            json!({"vlanTrunk": [{"minID": 5}]}),
            7,
            &["vlanTrunk", "maxID"],
        ),
        Expected(
            json!({"vlanTrunk": [{"minID": 9, "maxID": 5}]}),
            7,
            &["vlanTrunk", "9", "5", "swap"],
        ),
        Expected(
            json!({"ipMasqBackend": "ebtables"}),
            2,
            &["ipMasqBackend", "ebtables", "nftables"],
        ),
        Expected(
            json!({"ipam": {"type": "no-such-ipam"}}),
            7,
            &["no-such-ipam", "/opt/cni/bin"],
        ),
        Expected(
            json!({"ipam": {"type": "../../bin/sh"}}),
            7,
            &["../../bin/sh"],
        ),
        Expected(json!({"name": "a/b"}), 7, &["network name", "a/b"]),
        Expected(json!({"name": ".."}), 7, &["network name"]),
        Expected(json!({"name": null}), 7, &["missing network name"]),
        Expected(json!({"cniVersion": "7.0.0"}), 1, &["7.0.0"]),
        Expected(
            ranges(json!({"subnet": "10.1.2.3/24"})),
            7,
            &["host bits", "10.1.2.0", "10.1.2.3/24"],
        ),
        Expected(
            ranges(json!({"subnet": "10.1.2.0/31"})),
            7,
            &["too small", "10.1.2.0/31"],
        ),
        Expected(
            ranges(json!({"subnet": "10.1.2.0"})),
            7,
            &["subnet", "10.1.2.0"],
        ),
        Expected(
            ranges(json!({"subnet": "10.1.2.0/24", "rangeStart": "10.1.3.1"})),
            7,
            &["rangeStart", "10.1.3.1", "10.1.2.0/24"],
        ),
        Expected(
            ranges(
                json!({"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.9", "rangeEnd": "10.1.2.3"}),
            ),
            7,
            &["rangeStart", "rangeEnd"],
        ),
        Expected(
            ranges(json!({"subnet": "10.1.2.0/24", "gateway": "here"})),
            7,
            &["gateway", "here"],
        ),
        Expected(json!({"ipam": {"type": "host-local"}}), 7, &["subnet"]),
        Expected(
            json!({"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/16"}], [{"subnet": "10.1.2.0/24"}]]}}),
            7,
            &["overlap", "10.1.0.1", "10.1.2.1"],
        ),
        Expected(
            json!({"ipam": {"type": "static", "addresses": [{"address": "10.1.2.3"}]}}),
            7,
            &["CIDR", "10.1.2.3"],
        ),
        Expected(
            json!({"ipam": {"type": "static"}}),
            7,
            &["missing IP config"],
        ),
        Expected(
            json!({"runtimeConfig": {"mac": "no"}}),
            7,
            &["runtimeConfig.mac", "no"],
        ),
        Expected(
            json!({"runtimeConfig": {"ips": ["10.77.0.1"]}}),
            7,
            &["10.77.0.1"],
        ),
    ];
    let node = Node::new("node")?;
    let plugins = Plugins::heddle(&node)?;
    let pod = node.pod("x")?;
    for Expected(changes, code, parts) in cases {
        let conf = conf::bridge(changes.clone());
        let before = state(&node)?;
        let (found, message) = plugins
            .add(&conf, &pod)?
            .failure()
            .map_err(|error| error.context(changes.to_string()))?;
        assert_eq!(found, code, "{changes}: {message}");
        for part in parts {
            assert!(
                message.contains(part),
                "{changes}: {part:?} is not in {message:?}"
            );
        }
        state(&node)?
            .same_as(&before)
            .map_err(|error| error.context(changes.to_string()))?;
    }
    Ok(())
}

fn environments_that_cannot_be() -> Result {
    let node = Node::new("node")?;
    let plugins = Plugins::heddle(&node)?;
    let pod = node.pod("x")?;
    sh(node.space(), "touch /run/netns/plain")?;
    let before = state(&node)?;
    let conf = conf::bridge(json!({"isGateway": true}));
    let add = || plugins.call("ADD", &conf).pod(&pod);
    for (call, code, parts) in [
        (
            add().netns("/run/netns/plain"),
            8,
            &["/run/netns/plain", "another kind"][..],
        ),
        (
            add().netns("/run/netns/none"),
            8,
            &["/run/netns/none", "no such file"],
        ),
        (
            add().netns(""),
            4,
            &["required env variables [CNI_NETNS] missing"],
        ),
        (
            add().ifname("a-name-of-16-byt"),
            4,
            &["interface name is too long"],
        ),
        (add().ifname("a/b"), 4, &["interface name"]),
        (add().ifname(""), 4, &["CNI_IFNAME"]),
        (add().id("../x"), 4, &["containerID", "../x"]),
        (add().env("CNI_COMMAND", "ADDITION"), 4, &["ADDITION"]),
        (add().args("MAC=zz"), 4, &["CNI_ARGS MAC", "zz"]),
        (add().args("FOO=1"), 4, &["FOO", "IgnoreUnknown"]),
        (add().args("IP=300.1.1.1"), 4, &["CNI_ARGS IP", "300.1.1.1"]),
    ] {
        let (found, message) = call.send()?.failure()?;
        assert_eq!(found, code, "{message}");
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
        state(&node)?
            .same_as(&before)
            .map_err(|error| error.context(message))?;
    }
    Ok(())
}

fn stdin_that_is_no_configuration() -> Result {
    let node = Node::new("node")?;
    let plugins = Plugins::heddle(&node)?;
    let pod = node.pod("x")?;
    let before = state(&node)?;
    for kind in ["bridge", "host-local", "loopback", "static"] {
        for stdin in [
            "",
            "{",
            "[]",
            "no",
            "\"text\"",
            "{\"cniVersion\": 3}",
            "{} {}",
        ] {
            for verb in ["ADD", "CHECK", "GC", "STATUS"] {
                let call = plugins
                    .call(verb, &json!({"type": kind}))
                    .pod(&pod)
                    .stdin(stdin);
                let (code, message) = call
                    .send()?
                    .failure()
                    .map_err(|error| error.context(format!("{kind} {verb} {stdin:?}")))?;
                assert!(
                    [1, 6, 7].contains(&code),
                    "{kind} {verb} {stdin:?}: {code}: {message}"
                );
            }
        }
    }
    state(&node)?.same_as(&before)
}

fn addresses_that_are_taken() -> Result {
    let node = Node::new("node")?;
    let plugins = Plugins::heddle(&node)?;
    let conf = conf::bridge(json!({"isGateway": true, "ipMasq": true}));
    plugins.add(&conf, &node.pod("holder")?)?.done()?;
    let pod = node.pod("x")?;
    let before = state(&node)?;
    // By host-local: the lease says whose it is.
    let asking = conf::with(
        conf.clone(),
        json!({"runtimeConfig": {"ips": ["10.88.0.2"]}}),
    );
    let (code, message) = plugins.add(&asking, &pod)?.failure()?;
    assert!(
        code == 7 && message.contains("10.88.0.2 is not available") && message.contains("holder"),
        "{code}: {message}"
    );
    state(&node)?.same_as(&before)?;
    // By static: only the masquerade map knows.
    let ipam = json!({"type": "static", "addresses": [{"address": "10.88.0.2/24"}]});
    let (code, message) = plugins
        .add(&conf::with(conf.clone(), json!({"ipam": ipam})), &pod)?
        .failure()?;
    assert!(
        code == 4 && message.contains("heddle/lab/holder/eth0"),
        "{code}: {message}"
    );
    state(&node)?.same_as(&before)?;
    // A full range says so, as an error and as a status.
    let small = json!({"type": "host-local", "subnet": "10.9.0.0/30"});
    let small = conf::with(
        conf,
        json!({"name": "small", "bridge": "small0", "ipMasq": false, "ipam": small}),
    );
    plugins.status(&small)?.done()?;
    plugins.add(&small, &node.pod("only")?)?.done()?;
    let (code, message) = plugins.add(&small, &pod)?.failure()?;
    assert!(
        code == 11 && message.contains("no IP addresses available in range set: 10.9.0.1-10.9.0.2"),
        "{code}: {message}"
    );
    let (code, message) = plugins.status(&small)?.failure()?;
    assert!(
        code == 50 && message.contains("1 of 1"),
        "{code}: {message}"
    );
    Ok(())
}

fn every_answer_is_one_document() -> Result {
    let node = Node::new("node")?;
    let plugins = Plugins::heddle(&node)?;
    for kind in ["bridge", "host-local", "loopback", "static"] {
        for verb in [
            "ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION", "", "nonsense",
        ] {
            for version in [
                "0.1.0", "0.2.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0", "9.9.9",
            ] {
                let conf = json!({"cniVersion": version, "name": "n", "type": kind});
                let reply = plugins
                    .call(verb, &conf)
                    .id("x")
                    .ifname("eth0")
                    .netns("/run/netns/none")
                    .send()?;
                let document = reply.document()?;
                match (verb, document) {
                    ("", document) => assert_eq!(document, None),
                    (_, None) => assert!(
                        reply.is_success() && verb != "ADD" && verb != "VERSION",
                        "{kind} {verb} {version}"
                    ),
                    (_, Some(document)) => assert!(
                        document["cniVersion"].is_string(),
                        "{kind} {verb} {version}: {document}"
                    ),
                }
            }
        }
    }
    Ok(())
}

/// Without the directories, the lock and the memory of the last address, which a look into a range may leave.
fn state(node: &Node) -> Result<Snapshot> {
    Ok(Snapshot::of(node.space())?.without(&["/var/lib/cni/networks"]))
}
