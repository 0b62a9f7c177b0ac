//! `tap`: a device for a program in the pod.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::ensure;
use etherparse::PacketBuilder;
use lab::inspect::{ip_one, sh};
use lab::probe::Packet;
use lab::{Case, Need, Result, conf};
use serde_json::{Value, json};
use tun_rs::{DeviceBuilder, Layer};

use crate::held::{Place, address, on_the_wire};

pub fn cases() -> Vec<Case> {
    let cases = vec![
        Case::new("tap_is_what_was_asked_for", as_asked),
        Case::new("tap_a_program_talks_to_the_pod", packets),
        Case::new("tap_without_addresses", layer_2),
        Case::new("tap_a_second_add_is_refused", second_add),
        Case::new("tap_bad_configurations", bad_configurations),
        Case::new("tap_check_sees_what_is_missing", check),
        Case::new("tap_del_in_every_condition", del),
        Case::new("tap_many_at_once", || {
            Place::new()?.many_at_once(&everything())
        }),
        Case::new("tap_gc", || Place::new()?.gc(&everything(), &[])),
        Case::new("tap_add_with_each_call_failing", || {
            Place::new()?.add_with_each_call_failing(&everything())
        })
        .needs([Need::Program("strace")]),
    ];
    let kernel = [Need::Link("tap")];
    cases.into_iter().map(|case| case.needs(kernel)).collect()
}

fn tap(changes: Value) -> Value {
    let plain = json!({"cniVersion": "1.1.0", "name": "lab", "type": "tap", "ipam": on_the_wire()});
    conf::with(plain, changes)
}

fn everything() -> Value {
    tap(
        json!({"mtu": 1400, "multiQueue": true, "selinuxContext": "system_u:system_r:container_t:s0"}),
    )
}

fn as_asked() -> Result {
    let place = Place::new()?;
    let (pod, result) = place.attach(&everything(), "pod")?;
    let shown = ip_one(pod.space(), "link show dev eth0")?;
    let data = &shown["linkinfo"]["info_data"];
    assert_eq!(shown["linkinfo"]["info_kind"], "tun");
    assert_eq!(
        (
            &data["type"],
            &data["persist"],
            &data["pi"],
            &data["multi_queue"]
        ),
        (&json!("tap"), &json!(true), &json!(false), &json!(true))
    );
    assert_eq!(
        result["interfaces"],
        json!([{"name": "eth0", "mac": shown["address"], "mtu": 1400, "sandbox": pod.netns()}])
    );
    ensure!(shown["flags"].to_string().contains("\"UP\""), "{shown}");
    assert_eq!(lab::inspect::addresses(pod.space(), "eth0")?.len(), 2);
    place.plugins.check(&everything(), &pod, &result)?.done()?;
    place.plugins.del(&everything(), &pod)?.done()?;
    place.plugins.status(&everything())?.done()
}

/// A program on the other end, which is to the pod what a machine on the wire would be.
fn packets() -> Result {
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
    let place = Place::new()?;
    let (pod, result) = place.attach(&tap(json!({})), "pod")?;
    sh(
        pod.space(),
        "ip neighbour add 192.0.2.2 lladdr 02:00:00:00:00:09 dev eth0\n\
         ip neighbour add 2001:db8::2 lladdr 02:00:00:00:00:09 dev eth0",
    )?;
    let text = result["interfaces"][0]["mac"].as_str().unwrap_or_default();
    let mut own = [0; 6];
    for (byte, text) in own.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(text, 16)?;
    }
    for index in [0, 1] {
        let ethernet = PacketBuilder::ethernet2(MAC, own);
        let mut frame = Vec::new();
        let peer: IpAddr = match address(&result, index)? {
            IpAddr::V4(to) => {
                let from = Ipv4Addr::new(192, 0, 2, 2);
                let echo = ethernet.ipv4(from.octets(), to.octets(), 64);
                echo.icmpv4_echo_request(7, 1).write(&mut frame, b"echo")?;
                from.into()
            }
            IpAddr::V6(to) => {
                let from: Ipv6Addr = "2001:db8::2".parse()?;
                let echo = ethernet.ipv6(from.octets(), to.octets(), 64);
                echo.icmpv6_echo_request(7, 1).write(&mut frame, b"echo")?;
                from.into()
            }
        };
        let answer = pod.run(|| -> Result<bool> {
            let program = DeviceBuilder::new()
                .name("eth0")
                .layer(Layer::L2)
                .inherit_enable_state()
                .build_sync()?;
            program.set_nonblocking(true)?;
            let deadline = Instant::now() + Duration::from_secs(5);
            let mut buffer = vec![0; 2048];
            while Instant::now() < deadline {
                program.send(&frame)?;
                sleep(Duration::from_millis(20));
                while let Ok(length) = program.recv(&mut buffer) {
                    let packet = Packet::parse(&buffer[..length]);
                    if packet
                        .and_then(|packet| packet.ips)
                        .is_some_and(|(_, to)| to == peer)
                    {
                        return Ok(true);
                    }
                }
            }
            Ok(false)
        })?;
        ensure!(answer, "no answer from {}", address(&result, index)?);
    }
    Ok(())
}

fn layer_2() -> Result {
    let place = Place::new()?;
    let conf = tap(
        json!({"ipam": null, "mac": "0a:58:00:00:00:01", "runtimeConfig": {"mac": "0a:58:00:00:00:02"}}),
    );
    let (pod, result) = place.attach(&conf, "pod")?;
    assert_eq!(result["interfaces"][0]["mac"], "0a:58:00:00:00:02");
    assert_eq!(result["interfaces"][0]["mtu"], 1500);
    place.plugins.check(&conf, &pod, &result)?.done()?;
    place.plugins.del(&conf, &pod)?.done()?;
    ensure!(lab::inspect::ip(pod.space(), "link show")?.len() == 1);
    Ok(())
}

fn second_add() -> Result {
    let place = Place::new()?;
    let (pod, result) = place.attach(&everything(), "pod")?;
    let before = place.state(&pod)?;
    let (code, message) = place.plugins.add(&everything(), &pod)?.failure()?;
    ensure!(
        code == 4 && message.contains("run DEL"),
        "{code}: {message}"
    );
    place.same(&pod, &before)?;
    place.plugins.check(&everything(), &pod, &result)?.done()
}

fn bad_configurations() -> Result {
    let place = Place::new()?;
    for (changes, code, part) in [
        (json!({"mtu": 5}), 7, "\"mtu\": 5"),
        (json!({"owner": -1}), 7, "owner"),
        (json!({"owner": 107}), 2, "\"owner\": 107"),
        (json!({"group": 36}), 2, "\"group\": 36"),
        (json!({"group": "kvm"}), 7, "group"),
        (json!({"mac": "ff:ff:ff:ff:ff:ff"}), 7, "group address"),
    ] {
        let (found, message) = place.refused(&tap(changes), "pod")?;
        ensure!(
            found == code && message.contains(part),
            "{found}: {message} lacks {part:?}"
        );
    }
    // A label that cannot be had, where SELinux is on.
    sh(
        place.node.space(),
        "mount -t tmpfs none /sys/fs; mkdir /sys/fs/selinux; echo 1 > /sys/fs/selinux/enforce",
    )?;
    let (_, message) = place.refused(&everything(), "pod")?;
    ensure!(message.contains("container_t"), "{message}");
    Ok(())
}

fn check() -> Result {
    Place::new()?.check_sees(
        &everything(),
        &[
            (true, "ip link delete eth0"),
            (
                true,
                "ip link delete eth0; ip link add eth0 type ifb; ip link set eth0 up",
            ),
            (true, "ip link set eth0 down"),
            (true, "ip link set eth0 mtu 1300"),
            (true, "ip link set eth0 address 02:00:00:00:00:01"),
            (true, "ip address flush dev eth0"),
        ],
    )
}

fn del() -> Result {
    let mut broken = conf::with(everything(), json!({"mtu": 5, "owner": 107}));
    broken["ipam"]["ranges"] = json!([[{"subnet": "10.1.2.3/24"}]]);
    Place::new()?.del_in_every_condition(&everything(), &broken)
}
