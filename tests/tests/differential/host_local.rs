//! `host-local`: the same addresses, gateways, routes and files, in each version.
use anyhow::{Context, ensure};
use lab::Result;
use serde_json::{Value, json};

use crate::twins::{Twins, VERSIONS, to};

fn conf(version: &str, ipam: Value) -> Value {
    let mut ipam = ipam;
    ipam["type"] = "host-local".into();
    json!({"cniVersion": version, "name": "lab", "type": "host-local", "ipam": ipam})
}

/// Ranges in every spelling; the second half needs several addresses of a family, which 0.2.0 cannot say.
fn ranges() -> [(Value, &'static str); 10] {
    [
        (json!({"subnet": "10.1.0.0/28"}), "0.1.0"),
        (
            json!({"subnet": "10.1.0.0/28", "rangeStart": "10.1.0.4", "rangeEnd": "10.1.0.6", "gateway": "10.1.0.5"}),
            "0.1.0",
        ),
        (
            json!({"subnet": "10.1.0.0/24", "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.1.0.254"}]}),
            "0.1.0",
        ),
        (
            json!({"ranges": [[{"subnet": "10.1.0.0/28"}], [{"subnet": "fd01::/120"}]], "routes": [{"dst": "::/0"}, {"dst": "0.0.0.0/0", "gw": "10.1.0.1"}]}),
            "0.1.0",
        ),
        (
            json!({"ranges": [[{"subnet": "10.1.0.0/30"}, {"subnet": "10.2.0.0/30", "gateway": "10.2.0.2"}]]}),
            "0.1.0",
        ),
        (
            json!({"subnet": "fd01::/64", "rangeStart": "fd01::ffff", "resolvConf": "/run/resolv.conf"}),
            "0.1.0",
        ),
        (
            json!({"ranges": [[{"subnet": "10.1.0.0/29", "rangeStart": "10.1.0.0", "rangeEnd": "10.1.0.7"}]]}),
            "0.1.0",
        ),
        (
            json!({"subnet": "10.1.0.0/28", "ranges": [[{"subnet": "10.2.0.0/28"}], [{"subnet": "10.3.0.0/28"}]]}),
            "0.3.0",
        ),
        (
            json!({"ranges": [[{"subnet": "10.1.0.0/28"}], [{"subnet": "fd01::/120"}], [{"subnet": "10.2.0.0/28"}]]}),
            "0.3.0",
        ),
        (
            json!({"subnet": "10.1.0.0/28", "dataDir": "/var/lib/cni/networks/elsewhere"}),
            "0.1.0",
        ),
    ]
}

/// Addresses come and go; those that went are not given again at once.
pub fn lives() -> Result {
    for version in VERSIONS {
        for (ipam, since) in ranges() {
            if version >= since {
                life(&conf(version, ipam.clone()))
                    .with_context(|| format!("cniVersion {version}, {ipam}"))?;
            }
        }
    }
    Ok(())
}

fn life(conf: &Value) -> Result {
    let twins = Twins::new(&[])?;
    twins.sh("printf 'nameserver 192.0.2.53\\nsearch a b\\n# no\\ndomain c\\noptions ndots:2 x\\n' > /run/resolv.conf")?;
    let first = twins.call("ADD", conf, to("a"))?.results()?;
    twins.call("ADD", conf, to("b"))?.results()?;
    // A second address for the same attachment, which another interface may have.
    twins.call("ADD", conf, to("a"))?.failures(4)?;
    let second = |call: lab::Call| to("a")(call).ifname("eth1");
    twins.call("ADD", conf, second)?.same_outcome(11)?;
    twins.same_leases()?;
    let check = twins.check(conf, &first, to("a"))?;
    match conf["cniVersion"].as_str() < Some("0.4.0") {
        true => check.failures(1).map(drop)?,
        false => check.done()?,
    }
    for pod in ["a", "a", "never"] {
        twins.call("DEL", conf, to(pod))?.done()?;
        twins.same_leases()?;
    }
    if conf["cniVersion"].as_str() >= Some("0.4.0") {
        twins.check(conf, &first, to("never"))?.failures(999)?;
    }
    for pod in ["c", "d"] {
        twins.call("ADD", conf, to(pod))?.same_outcome(11)?;
        twins.same_leases()?;
    }
    Ok(())
}

/// Addresses that somebody asks for.
pub fn requests() -> Result {
    let plain = json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd01::/64"}]]});
    let table = [
        ("IP=10.1.0.7", json!({})),
        ("IP=10.1.0.7;IgnoreUnknown=1;K8S_POD_NAME=x", json!({})),
        ("IgnoreUnknown=true;ip=10.1.0.7", json!({})),
        ("IP=fd01::7", json!({})),
        (
            "",
            json!({"args": {"cni": {"ips": ["10.1.0.9", "fd01::9"]}}}),
        ),
        ("", json!({"args": {"cni": {"ips": ["10.1.0.9/16"]}}})),
        (
            "",
            json!({"runtimeConfig": {"ips": ["10.1.0.10", "fd01::a/120"]}}),
        ),
        (
            "IP=10.1.0.7",
            json!({"runtimeConfig": {"ips": ["fd01::b"]}}),
        ),
        (
            "",
            json!({"runtimeConfig": {"ipRanges": [[{"subnet": "10.5.0.0/24", "rangeStart": "10.5.0.20"}]]}}),
        ),
    ];
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0"] {
        for (args, changes) in &table {
            let twins = Twins::new(&[])?;
            let conf = lab::conf::with(conf(version, plain.clone()), changes.clone());
            let what = || format!("cniVersion {version}, {args:?}, {changes}");
            let asks = |call: lab::Call| to("a")(call).args(args);
            twins
                .call("ADD", &conf, asks)?
                .results()
                .with_context(what)?;
            twins.same_leases().with_context(what)?;
            // The same addresses for somebody else: taken, unless they were only a range.
            let again = twins.call("ADD", &conf, |call| to("b")(call).args(args))?;
            again.same_outcome(7).with_context(what)?;
            twins.same_leases().with_context(what)?;
            twins.call("DEL", &conf, asks)?.done()?;
            twins.same_leases().with_context(what)?;
        }
    }
    Ok(())
}

/// Requests and ranges that both refuse, with Heddle's code; nothing is written.
pub fn refusals() -> Result {
    let plain = || json!({"subnet": "10.1.0.0/24"});
    let none = || json!({});
    let table = [
        ("IP=10.1.0.1", plain(), none(), 7),
        ("IP=10.2.0.1", plain(), none(), 7),
        ("IP=x", plain(), none(), 4),
        ("K8S_POD_NAME=x", plain(), none(), 4),
        ("IP=10.1.0.5;", plain(), none(), 4),
        ("", plain(), json!({"args": {"cni": {"ips": ["ten"]}}}), 7),
        (
            "",
            plain(),
            json!({"runtimeConfig": {"ips": ["10.1.0.5", "10.1.0.6"]}}),
            7,
        ),
        ("", json!({}), none(), 7),
        ("", json!({"subnet": "10.1.0.1/24"}), none(), 7),
        ("", json!({"subnet": "10.1.0.0/31"}), none(), 7),
        ("", json!({"subnet": "fd01::/127"}), none(), 7),
        ("", json!({"subnet": "10.1.0.0/33"}), none(), 7),
        (
            "",
            json!({"subnet": "10.1.0.0/24", "rangeStart": "10.2.0.1"}),
            none(),
            7,
        ),
        (
            "",
            json!({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.8"}),
            none(),
            7,
        ),
        (
            "",
            json!({"ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "fd01::/64"}]]}),
            none(),
            7,
        ),
        (
            "",
            json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.1.0.128/25"}]]}),
            none(),
            7,
        ),
        ("", json!({"ranges": [[]]}), none(), 7),
        ("", json!({"ranges": "10.1.0.0/24"}), none(), 7),
        (
            "",
            json!({"subnet": "10.1.0.0/24", "routes": [{"dst": "10.1.0.0"}]}),
            none(),
            7,
        ),
        (
            "",
            json!({"subnet": "10.1.0.0/24", "resolvConf": "/run/no-such-file"}),
            none(),
            7,
        ),
    ];
    for (args, ipam, changes, code) in table {
        let twins = Twins::new(&[])?;
        let conf = lab::conf::with(conf("1.0.0", ipam.clone()), changes.clone());
        let answers = twins.call("ADD", &conf, |call| to("a")(call).args(args))?;
        answers
            .failures(code)
            .with_context(|| format!("{args:?}, {ipam}, {changes}"))?;
    }
    let several = json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}]]});
    for version in ["0.1.0", "0.2.0"] {
        Twins::new(&[])?
            .call("ADD", &conf(version, several.clone()), to("a"))?
            .failures(7)
            .context(version)?;
    }
    Ok(())
}

/// The last address, and the words for there being none.
pub fn exhaustion() -> Result {
    let table = [
        json!({"subnet": "10.1.0.0/29"}),
        json!({"ranges": [[{"subnet": "10.1.0.0/30"}, {"subnet": "10.2.0.0/29", "rangeStart": "10.2.0.5"}]]}),
        json!({"ranges": [[{"subnet": "fd01::/64"}], [{"subnet": "10.1.0.0/30"}]]}),
    ];
    for ipam in table {
        let (twins, conf) = (Twins::new(&[])?, conf("1.0.0", ipam));
        let mut given = 0;
        let [theirs, ours] = loop {
            let answers = twins.call("ADD", &conf, to(&format!("pod{given}")))?;
            if answers.results().is_err() {
                break answers.failures(11)?;
            }
            given += 1;
            ensure!(given < 10, "a /29 without end");
        };
        ensure!(given > 0, "nothing was given");
        ensure!(
            ours.starts_with(&theirs),
            "the reference: {theirs:?}, Heddle: {ours:?}"
        );
        twins.same_leases()?;
        twins.call("DEL", &conf, to("pod0"))?.done()?;
        twins.call("ADD", &conf, to("again"))?.results()?;
        twins.same_leases()?;
    }
    Ok(())
}
