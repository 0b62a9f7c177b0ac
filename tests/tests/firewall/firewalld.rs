//! firewalld's zones: a stand-in for it on a real bus, which drops whoever writes a message that is none.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::bus::{Answer, Call, Service};
use lab::{Daemon, Node, Plugins, wait};

const NAME: &str = "org.fedoraproject.FirewallD1";
const SOCKET: &str = "/run/dbus/system_bus_socket";
const CONFIG: &str = r#"
    <busconfig>
      <type>system</type>
      <listen>unix:path=/run/dbus/system_bus_socket</listen>
      <auth>EXTERNAL</auth>
      <policy context="default">
        <allow send_destination="*"/> <allow receive_sender="*"/> <allow own="*"/> <allow user="*"/>
      </policy>
    </busconfig>
"#;

/// The zone of each source.
type Zones = Arc<Mutex<BTreeMap<String, String>>>;

/// A bus on a node, without firewalld.
fn bus(node: &Node) -> Result<Daemon> {
    node.run(|| -> Result {
        std::fs::create_dir_all("/run/dbus")?;
        Ok(std::fs::write("/run/dbus.conf", CONFIG)?)
    })?;
    let words = [
        "dbus-daemon",
        "--config-file=/run/dbus.conf",
        "--nofork",
        "--nopidfile",
    ];
    let daemon = Daemon::start(node.space(), &words)?;
    wait::until(Duration::from_secs(10), "bus", || {
        node.run(|| std::os::unix::net::UnixStream::connect(SOCKET).map(drop))
            .with_context(|| daemon.log().unwrap_or_default())
    })?;
    Ok(daemon)
}

/// A firewalld with the zones `trusted` and `pods`; it ends with the bus.
fn firewalld(node: &Node) -> Result<Zones> {
    let zones = Zones::default();
    let (inside, (ready, is_ready)) = (zones.clone(), std::sync::mpsc::channel());
    node.spawn(move || -> Result {
        let mut service = Service::new(SOCKET, NAME)?;
        ready.send(())?;
        loop {
            let call = service.next()?;
            let zones = &mut inside
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            service.answer(&call, &answer(zones, &call))?;
        }
    });
    is_ready.recv_timeout(Duration::from_secs(10))?;
    Ok(zones)
}

/// What firewalld says (its `core/fw_zone.py` and `server/firewalld.py`, 1.3).
fn answer(zones: &mut BTreeMap<String, String>, call: &Call) -> Answer {
    let fails = |text: String| Answer::Error(text);
    match (call.member.as_str(), call.words.as_slice()) {
        ("getZoneOfSource", [source]) => {
            Answer::Text(zones.get(source).cloned().unwrap_or_default())
        }
        (_, [zone, _]) if !["trusted", "pods"].contains(&zone.as_str()) => {
            fails(format!("INVALID_ZONE: {zone}"))
        }
        ("querySource", [zone, source]) => Answer::Truth(zones.get(source) == Some(zone)),
        ("addSource", [zone, source]) => match zones.get(source) {
            Some(has) if has == zone => fails(format!(
                "ZONE_ALREADY_SET: '{source}' already bound to '{zone}'"
            )),
            Some(_) => fails(format!("ZONE_CONFLICT: '{source}' already bound to a zone")),
            None => {
                zones.insert(source.clone(), zone.clone());
                Answer::Text(zone.clone())
            }
        },
        ("removeSource", [zone, source]) => {
            zones.remove(source);
            Answer::Text(zone.clone())
        }
        (member, words) => fails(format!("no method {member} of {words:?}")),
    }
}

fn sources(zones: &Zones) -> Vec<(String, String)> {
    let zones = zones
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    zones.clone().into_iter().collect()
}

/// A pod's two addresses in a zone.
fn of(pod: &Attached, zone: &str) -> Result<Vec<(String, String)>> {
    Ok(vec![
        (format!("{}/32", pod.address(0)?), zone.to_owned()),
        (format!("{}/128", pod.address(1)?), zone.to_owned()),
    ])
}

pub fn addresses_are_sources_of_a_zone() -> Result {
    let chain = Chain::new()?;
    let _bus = bus(&chain.node)?;
    let zones = firewalld(&chain.node)?;
    let (pod, other) = (chain.attach("pod")?, chain.attach("other")?);
    let before = chain.snapshot()?;
    for (changes, zone) in [
        (json!({}), "trusted"),
        (
            json!({"backend": "firewalld", "firewalldZone": "pods"}),
            "pods",
        ),
    ] {
        let conf = firewall(changes);
        chain.plugins.status(&conf)?.done()?;
        for _ in 0..2 {
            chain.add(&conf, &pod)?;
            assert_eq!(sources(&zones), of(&pod, zone)?);
        }
        chain.check(&conf, &pod)?;
        chain.add(&conf, &other)?;
        // firewalld forgets them when it is reloaded: the reference's CHECK does not read the answer.
        zones
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .retain(|source, _| !source.contains('.'));
        let message = chain.complaint(&conf, &pod)?;
        ensure!(message.contains("firewalld"), "{message}");
        // DEL goes by the attachment: no result, another zone.
        let bare = conf::with(conf.clone(), json!({"firewalldZone": "elsewhere"}));
        for _ in 0..2 {
            chain.plugins.del(&bare, &pod.pod)?.done()?;
            assert_eq!(sources(&zones), of(&other, zone)?[1..]);
        }
        chain.plugins.gc(&conf, &[("other", "eth0")])?.done()?;
        assert_eq!(sources(&zones).len(), 1);
        chain.plugins.gc(&conf, &[])?.done()?;
        assert_eq!(sources(&zones), []);
        chain.snapshot()?.same_as(&before)?;
    }
    // With another backend nobody is asked.
    chain.add(&firewall(json!({"backend": "nftables"})), &pod)?;
    assert_eq!(sources(&zones), []);
    Ok(())
}

/// An address that another pod has by now stays in its zone.
pub fn an_address_used_again_stays_a_source() -> Result {
    let chain = Chain::new()?;
    let _bus = bus(&chain.node)?;
    let zones = firewalld(&chain.node)?;
    let pod = chain.attach("new")?;
    let conf = firewall(json!({}));
    let stale = |verb: &str| {
        let call = chain.plugins.call(verb, &with_prev(&conf, &pod.result));
        call.pod(&pod.pod).id("old").send()?.done()
    };
    stale("ADD")?;
    chain.add(&conf, &pod)?;
    stale("DEL")?;
    assert_eq!(sources(&zones), of(&pod, "trusted")?);
    chain.del(&conf, &pod)?;
    assert_eq!(sources(&zones), []);
    Ok(())
}

pub fn firewalld_may_be_wanted_and_missing() -> Result {
    let chain = Chain::new()?;
    let pod = chain.attach("pod")?;
    let wanted = firewall(json!({"backend": "firewalld"}));
    let missing = || -> Result {
        let (code, message) = chain.refused(&wanted, &pod)?;
        ensure!(
            code == 11 && message.contains("start it"),
            "{code}: {message}"
        );
        let (code, message) = chain.plugins.status(&wanted)?.failure()?;
        ensure!(
            code == 50 && message.contains("firewalld"),
            "{code}: {message}"
        );
        // Where it only may run, that it does not is no failure.
        chain.add(&firewall(json!({})), &pod)?;
        chain.del(&firewall(json!({})), &pod)
    };
    missing()?;
    let bus = bus(&chain.node)?;
    missing()?;
    let zones = firewalld(&chain.node)?;
    let (code, message) = chain.refused(&firewall(json!({"firewalldZone": "nowhere"})), &pod)?;
    ensure!(
        code == 7 && message.contains("\"nowhere\""),
        "{code}: {message}"
    );
    assert_eq!(sources(&zones), []);
    // It goes while a pod is there, and its zones with it.
    let before = chain.snapshot()?;
    chain.add(&wanted, &pod)?;
    drop(bus);
    chain.del(&wanted, &pod)?;
    chain.snapshot()?.same_as(&before)
}

pub fn sources_go_in_every_condition() -> Result {
    let chain = Chain::new()?;
    let _bus = bus(&chain.node)?;
    let zones = firewalld(&chain.node)?;
    chain.del_in_every_condition(&firewall(json!({})))?;
    assert_eq!(sources(&zones), []);
    Ok(())
}

/// Its CHECK asks whether the address is in the zone, and takes a no for a yes.
pub fn the_reference_does_not_read_the_answer() -> Result {
    let chain = Chain::new()?;
    let _bus = bus(&chain.node)?;
    let zones = firewalld(&chain.node)?;
    let pod = chain.attach("pod")?;
    let version = json!({"cniVersion": "1.0.0"});
    let result = conf::with(pod.result.clone(), version.clone());
    let conf = with_prev(
        &conf::with(firewall(json!({"backend": "firewalld"})), version),
        &result,
    );
    let reference = Plugins::reference(&chain.node);
    for plugins in [&reference, &chain.plugins] {
        plugins.add(&conf, &pod.pod)?.done()?;
        assert_eq!(sources(&zones), of(&pod, "trusted")?);
        zones
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clear();
        let is_content = plugins
            .call("CHECK", &conf)
            .pod(&pod.pod)
            .send()?
            .is_success();
        assert_eq!(is_content, std::ptr::eq(plugins, &reference));
    }
    Ok(())
}
