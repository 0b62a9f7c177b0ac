//! An IPAM plugin of somebody else's, as the reference's `dhcp` is: an executable in `CNI_PATH`, called by the protocol.
use std::fs;

use anyhow::ensure;
use lab::inspect::sh;
use lab::{Case, Need, Result};
use serde_json::json;

use crate::held::{Place, address, reach};

pub fn cases() -> Vec<Case> {
    vec![Case::new("an_ipam_like_dhcp_is_delegated_to", delegated).needs([Need::Link("macvlan")])]
}

const DHCP: &str = r#"#!/bin/sh
echo "$CNI_COMMAND $CNI_IFNAME" >> /run/theirs/log
[ "$CNI_COMMAND" = ADD ] && cat <<'RESULT'
{"cniVersion": "1.0.0", "ips": [{"address": "192.0.2.99/24", "gateway": "192.0.2.2"}],
 "routes": [{"dst": "198.51.100.0/24"}], "dns": {"nameservers": ["192.0.2.53"]}}
RESULT
exit 0
"#;

fn delegated() -> Result {
    let place = Place::new()?;
    let plugins = place.plugins.with_path("/run/theirs:/opt/cni/bin");
    place.node.run(|| -> Result {
        fs::create_dir("/run/theirs")?;
        fs::write("/run/theirs/dhcp", DHCP)?;
        Ok(())
    })?;
    sh(place.node.space(), "chmod 755 /run/theirs/dhcp")?;
    for (kind, changes) in [
        ("macvlan", json!({"master": "up0"})),
        ("ptp", json!({})),
        ("tap", json!({})),
    ] {
        let plain =
            json!({"cniVersion": "1.1.0", "name": "lab", "type": kind, "ipam": {"type": "dhcp"}});
        let conf = lab::conf::with(plain, changes);
        let pod = place.node.pod(kind)?;
        plugins.status(&conf)?.done()?;
        let result = plugins.add(&conf, &pod)?.result()?;
        assert_eq!(address(&result, 0)?.to_string(), "192.0.2.99");
        assert_eq!(result["dns"]["nameservers"][0], "192.0.2.53");
        if kind == "macvlan" {
            reach(pod.space(), place.world.space(), "192.0.2.2".parse()?)?;
        }
        plugins.check(&conf, &pod, &result)?.done()?;
        plugins.gc(&conf, &[(kind, "eth0")])?.done()?;
        for netns in [pod.netns().to_string_lossy().as_ref(), ""] {
            let call = plugins.call("DEL", &conf).pod(&pod);
            call.netns(netns).send()?.done()?;
        }
        let log = place.node.run(|| fs::read_to_string("/run/theirs/log"))?;
        let expected = "STATUS \nADD eth0\nCHECK eth0\nGC \nDEL eth0\nDEL eth0\n";
        ensure!(log == expected, "{kind}: {log}");
        sh(place.node.space(), "rm /run/theirs/log")?;
    }
    Ok(())
}
