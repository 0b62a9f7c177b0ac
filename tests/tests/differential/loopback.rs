//! `loopback`, in each version, alone and behind another plugin.
use anyhow::Context;
use lab::{Call, Result, with_prev};
use serde_json::{Value, json};

use crate::twins::{Answers, Results, Twins, VERSIONS, to};

pub fn same() -> Result {
    for version in VERSIONS {
        let twins = Twins::new(&["one"])?;
        let conf = json!({"cniVersion": version, "name": "lo", "type": "loopback"});
        let shape = |call: Call| to("one")(call).ifname("lo").args("none of its business");
        let added = twins.call("ADD", &conf, shape)?;
        let results = match version < "1.0.0" {
            true => as_later(&added).context(version)?,
            false => added.results()?,
        };
        twins.same_pod("one")?;
        let check = twins.check(&conf, &results, shape)?;
        match version < "0.4.0" {
            true => check.failures(1).map(drop).context(version)?,
            false => check.done().context(version)?,
        }
        for _ in 0..2 {
            twins.call("DEL", &conf, shape)?.done()?;
            twins.same_pod("one")?;
        }
        twins
            .call("DEL", &conf, |call| shape(call).netns(""))?
            .done()?;
        twins
            .call("DEL", &conf, |call| shape(call).netns("/run/netns/gone"))?
            .done()?;
    }
    Ok(())
}

/// The reference prints the form of 1.0.0 under every older number, which no reader of those expects. The same must be
/// in both.
fn as_later(added: &Answers) -> Result<Results> {
    let (reference, heddle) = (added.reference.result()?, added.heddle.result()?);
    let parts = |result: &Value, pointers: [&str; 2]| {
        pointers.map(|pointer| result.pointer(pointer).cloned())
    };
    let listed = ["/ips/0/address", "/ips/1/address"];
    let ours = if heddle["cniVersion"].as_str() < Some("0.3.0") {
        parts(&heddle, ["/ip4/ip", "/ip6/ip"])
    } else {
        assert_eq!(reference["interfaces"], heddle["interfaces"]);
        let families = parts(&heddle, ["/ips/0/version", "/ips/1/version"]);
        assert_eq!(families, ["4", "6"].map(|family| Some(family.into())));
        parts(&heddle, listed)
    };
    assert_eq!(parts(&reference, listed), ours);
    Ok(Results { reference, heddle })
}

/// What was there before comes out again.
pub fn passes_on() -> Result {
    for version in VERSIONS.into_iter().filter(|version| *version >= "0.3.0") {
        let twins = Twins::new(&["one"])?;
        let mut ip = json!({"address": "10.1.0.5/24", "gateway": "10.1.0.1", "interface": 0});
        if version < "1.0.0" {
            ip["version"] = "4".into();
        }
        let before = json!({"cniVersion": version, "interfaces": [{"name": "eth0", "sandbox": "/run/netns/one"}],
            "ips": [ip], "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}], "dns": {"nameservers": ["192.0.2.53"]}});
        let conf = json!({"cniVersion": version, "name": "lo", "type": "loopback"});
        let added = twins.call("ADD", &with_prev(&conf, &before), |call| {
            to("one")(call).ifname("lo")
        })?;
        assert_eq!(added.heddle.result()?, before, "{version}");
        if version >= "1.0.0" {
            added.results()?;
        }
    }
    Ok(())
}
