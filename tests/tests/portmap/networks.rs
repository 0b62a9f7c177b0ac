//! A container with two networks to which its runtime gives the same ports, as podman does.
use anyhow::Context;
use lab::chain::{Attached, Chain};
use lab::probe::TcpEcho;
use lab::{Result, conf, with_prev};
use serde_json::{Value, json};

use crate::{at, portmap, seen};

/// The port leads to the first network, and when that goes to the second, whichever is the first.
pub fn two_networks_of_one_container() -> Result {
    let chain = Chain::new()?;
    let ports = [
        (8080, 80, "tcp", ""),
        (8080, 80, "tcp", "192.0.2.1"),
        (9090, 80, "tcp", ""),
    ];
    let named = |name: &str, condition: &str| {
        portmap(
            &ports,
            json!({"name": name, "conditionsV4": ["ip", "saddr", "!=", condition]}),
        )
    };
    let (one, two) = (named("lab", "10.1.1.1"), named("two", "10.2.2.2"));
    let (first, second) = (chain.attach("pod")?, second(&chain)?);
    let call = |verb: &str, conf: &Value, to: &Attached| {
        let call = chain.plugins.call(verb, &with_prev(conf, &to.result));
        let reply = call.pod(&to.pod).id("pod").send()?;
        reply.done().with_context(|| verb.to_owned())
    };
    // Only there is anybody who answers.
    let leads_to = |to: &Attached| -> Result {
        let _server = TcpEcho::start(to.pod.space(), at("0.0.0.0", 80)?)?;
        for port in [8080, 9090] {
            seen(chain.world.space(), at("192.0.2.1", port)?)?;
        }
        Ok(())
    };
    let before = chain.snapshot()?;
    for (first, second, conf, other) in
        [(&first, &second, &one, &two), (&second, &first, &two, &one)]
    {
        call("ADD", conf, first)?;
        // That 127.0.0.1 reaches a bridge lasts until the last port is gone.
        let quiet = || {
            Ok::<_, anyhow::Error>(
                chain
                    .snapshot()?
                    .without(&["route_localnet", "hostport_devices"]),
            )
        };
        let alone = quiet()?;
        call("ADD", other, second)?;
        call("CHECK", conf, first)?;
        call("CHECK", other, second)?;
        leads_to(first)?;
        // The one that waits goes without a trace.
        call("DEL", other, second)?;
        quiet()?.same_as(&alone)?;
        call("ADD", other, second)?;
        call("ADD", other, second)?;
        call("DEL", conf, first)?;
        leads_to(second)?;
        call("CHECK", other, second)?;
        call("DEL", other, second)?;
        chain.snapshot()?.same_as(&before)?;
    }
    Ok(())
}

/// A second network, on a bridge of its own.
fn second(chain: &Chain) -> Result<Attached> {
    let bridge = conf::bridge(json!({
        "name": "two", "bridge": "cbr1", "isDefaultGateway": true,
        "ipam": {"type": "host-local", "subnet": "10.99.0.0/24"},
    }));
    let pod = chain.node.pod("second")?;
    let result = chain.plugins.add(&bridge, &pod)?.result()?;
    Ok(Attached { pod, result })
}
