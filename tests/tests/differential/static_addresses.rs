//! `static`: every source of addresses, in each version.
use anyhow::Context;
use lab::Result;
use serde_json::{Value, json};

use crate::twins::{Twins, VERSIONS, to};

fn conf(version: &str, ipam: &Value, changes: &Value) -> Value {
    let mut ipam = ipam.clone();
    ipam["type"] = "static".into();
    let conf = json!({"cniVersion": version, "name": "lab", "type": "static", "ipam": ipam});
    lab::conf::with(conf, changes.clone())
}

/// GATEWAY goes with addresses from IP only: to those of the configuration, which it has not read yet, the reference
/// never applies it, while Heddle does.
pub fn same() -> Result {
    let one = || json!({"addresses": [{"address": "10.1.0.5/24", "gateway": "10.1.0.254"}]});
    let both = || {
        json!({"addresses": [{"address": "10.1.0.5/24"}, {"address": "fd01::5/64", "gateway": "fd01::1"}],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.1.0.9"}, {"dst": "::/0", "gw": "fd01::1"}],
        "dns": {"nameservers": ["192.0.2.53"], "domain": "x", "search": ["a", "b"], "options": ["ndots:2"]}})
    };
    let none = || json!({});
    let table = [
        ("", one(), none(), "0.1.0"),
        ("", both(), none(), "0.1.0"),
        ("IP=10.1.0.7/24", json!({}), none(), "0.1.0"),
        (
            "IP=10.1.0.7/24,fd01::7/64;GATEWAY=10.1.0.1,fd01::1;IgnoreUnknown=1;K8S_POD_NAME=x",
            json!({}),
            none(),
            "0.1.0",
        ),
        (
            "",
            one(),
            json!({"args": {"cni": {"ips": ["10.1.0.8/24"]}}}),
            "0.1.0",
        ),
        (
            "",
            one(),
            json!({"runtimeConfig": {"ips": ["10.1.0.9/24", "fd01::9/64"]}}),
            "0.1.0",
        ),
        (
            "IP=10.2.0.7/24",
            one(),
            json!({"args": {"cni": {"ips": ["10.1.0.8/24"]}}, "runtimeConfig": {"ips": ["10.1.0.9/24"]}}),
            "0.1.0",
        ),
        ("IP=10.2.0.7/24", one(), none(), "0.3.0"),
        (
            "",
            json!({"addresses": [{"address": "10.1.0.5/24"}], "routes": [
            {"dst": "10.9.0.0/16", "gw": "10.1.0.1"}, {"dst": "10.9.0.0/16", "gw": "10.1.0.2"}]}),
            none(),
            "0.1.0",
        ),
    ];
    for version in VERSIONS {
        for (args, ipam, changes, since) in &table {
            if version < *since {
                continue;
            }
            let what = || format!("cniVersion {version}, {args:?}, {ipam}, {changes}");
            let (twins, conf) = (Twins::new(&[])?, conf(version, ipam, changes));
            let shape = |call: lab::Call| to("a")(call).args(args);
            let results = twins
                .call("ADD", &conf, shape)?
                .results()
                .with_context(what)?;
            let check = twins.check(&conf, &results, shape)?;
            match version < "0.4.0" {
                true => check.failures(1).map(drop).with_context(what)?,
                false => check.done().with_context(what)?,
            }
            for _ in 0..2 {
                twins.call("DEL", &conf, shape)?.done().with_context(what)?;
            }
        }
    }
    Ok(())
}

pub fn refusals() -> Result {
    let table = [
        (
            "",
            json!({"addresses": [{"address": "10.1.0.5"}]}),
            json!({}),
            7,
        ),
        ("IP=10.1.0.5", json!({}), json!({}), 4),
        (
            "",
            json!({}),
            json!({"args": {"cni": {"ips": ["10.1.0.5"]}}}),
            7,
        ),
        ("", json!({}), json!({"runtimeConfig": {"ips": ["x"]}}), 7),
        (
            "GATEWAY=x",
            json!({"addresses": [{"address": "10.1.0.5/24"}]}),
            json!({}),
            4,
        ),
        ("", json!({}), json!({"ipam": null}), 7),
        ("NOT=known", json!({}), json!({}), 4),
    ];
    for (args, ipam, changes, code) in table {
        let conf = conf("1.0.0", &ipam, &changes);
        let answers = Twins::new(&[])?.call("ADD", &conf, |call| to("a")(call).args(args))?;
        answers
            .failures(code)
            .with_context(|| format!("{args:?}, {ipam}, {changes}"))?;
    }
    let several = json!({"addresses": [{"address": "10.1.0.5/24"}, {"address": "10.1.0.6/24"}]});
    for version in ["0.1.0", "0.2.0"] {
        let answers =
            Twins::new(&[])?.call("ADD", &conf(version, &several, &json!({})), to("a"))?;
        answers.failures(7).context(version)?;
    }
    Ok(())
}
