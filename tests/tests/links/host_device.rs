//! `host-device`: a device of the node's goes into a pod and comes back as it was.
use std::panic::resume_unwind;

use anyhow::{Context, ensure};
use lab::inspect::{ip_one, sh};
use lab::{Case, Need, Pod, Result, conf};
use serde_json::{Value, json};

use crate::held::{self, Place, address, reach};

pub fn cases() -> Vec<Case> {
    let reference = ["host-device", "host-local", "static"].map(Need::Reference);
    vec![
        Case::new("host_device_packets_pass_and_it_comes_back", packets),
        Case::new("host_device_by_every_name", every_name),
        Case::new("host_device_of_a_userspace_driver", userspace),
        Case::new("host_device_keeps_its_alias", alias),
        Case::new("host_device_bad_configurations", bad_configurations),
        Case::new("host_device_check_sees_what_is_missing", check),
        Case::new("host_device_del_in_every_condition", del),
        Case::new(
            "host_device_that_the_kernel_put_back_gets_its_name",
            put_back,
        ),
        Case::new("host_device_whose_name_is_taken", name_taken),
        Case::new("host_device_many_at_once", many_at_once),
        Case::new("host_device_a_failed_add_leaves_it_up", failed_add),
        Case::new("host_device_add_with_each_call_failing", each_call_failing)
            .needs([Need::Program("strace")]),
        Case::new(
            "host_device_what_the_reference_does_wrong",
            against_the_reference,
        )
        .needs(reference),
        Case::new("host_device_changes_over_in_both_directions", change_over).needs(reference),
    ]
}

/// A device `dev0` on the node whose other end, `peer0`, is in the world.
fn with_device() -> Result<Place> {
    let place = Place::new()?;
    plug(&place, "dev0")?;
    Ok(place)
}

fn plug(place: &Place, name: &str) -> Result {
    sh(
        place.node.space(),
        &format!("ip link add {name} type veth peer name peer0 netns world"),
    )?;
    sh(
        place.world.space(),
        "ip link set peer0 up; ip address add 198.51.100.1/24 dev peer0; ip address add fd51::1/64 dev peer0 nodad",
    )?;
    Ok(())
}

fn device(changes: Value) -> Value {
    let plain = json!({
        "cniVersion": "1.1.0", "name": "lab", "type": "host-device", "device": "dev0", "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": "198.51.100.0/24"}], [{"subnet": "fd51::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        },
    });
    conf::with(plain, changes)
}

fn reaches(place: &Place, pod: &Pod, result: &Value) -> Result {
    for (index, world) in ["198.51.100.1", "fd51::1"].iter().enumerate() {
        reach(pod.space(), place.world.space(), world.parse()?)?;
        reach(place.world.space(), pod.space(), address(result, index)?)?;
    }
    Ok(())
}

fn packets() -> Result {
    let place = with_device()?;
    let before = place.snapshot()?;
    let mac = ip_one(place.node.space(), "link show dev dev0")?["address"].clone();
    for _ in 0..2 {
        let (pod, result) = place.attach(&device(json!({})), "pod")?;
        assert_eq!(
            result["interfaces"],
            json!([{"name": "eth0", "mac": mac, "mtu": 1500, "sandbox": pod.netns()}])
        );
        assert_eq!(
            ip_one(pod.space(), "link show dev eth0")?["ifalias"],
            "dev0"
        );
        reaches(&place, &pod, &result)?;
        place
            .plugins
            .check(&device(json!({})), &pod, &result)?
            .done()?;
        let (code, message) = place.plugins.add(&device(json!({})), &pod)?.failure()?;
        ensure!(
            code == 4 && message.contains("run DEL"),
            "{code}: {message}"
        );
        let (code, message) = place.refused(&device(json!({})), "second")?;
        ensure!(
            code == 7 && message.contains("\"dev0\""),
            "{code}: {message}"
        );
        place.plugins.del(&device(json!({})), &pod)?.done()?;
        place.snapshot()?.same_as(&before)?;
        pod.unmount(false)?;
    }
    // Without addresses.
    let conf = device(json!({"ipam": null}));
    let (pod, result) = place.attach(&conf, "pod")?;
    ensure!(
        ip_one(pod.space(), "link show dev eth0")?["flags"]
            .to_string()
            .contains("\"UP\"")
    );
    place.plugins.check(&conf, &pod, &result)?.done()?;
    place.plugins.del(&conf, &pod)?.done()?;
    place.snapshot()?.same_as(&before)
}

/// Buses of the node's own, where `dev0` belongs to a PCI device, to a function of another and to a virtio device.
fn with_buses(place: &Place) -> Result {
    sh(
        place.node.space(),
        "mount -t tmpfs none /sys/bus; mount -t tmpfs none /sys/devices/virtual\n\
         mkdir -p /sys/bus/pci/devices/0000:03:00.0/net/dev0 /sys/bus/pci/devices/0000:04:00.0/virtio1/net/dev0\n\
         mkdir -p /sys/bus/auxiliary/devices/mlx5_core.sf.4/net/dev0 /sys/devices/virtual/card/net/dev0\n\
         mkdir -p /sys/bus/pci/devices/0000:05:00.0 /sys/bus/pci/drivers/vfio-pci\n\
         ln -s ../../drivers/vfio-pci /sys/bus/pci/devices/0000:05:00.0/driver",
    )?;
    Ok(())
}

fn every_name() -> Result {
    let place = with_device()?;
    with_buses(&place)?;
    let before = place.snapshot()?;
    let mac = ip_one(place.node.space(), "link show dev dev0")?["address"].clone();
    for (number, changes) in [
        json!({"hwaddr": mac}),
        json!({"hwaddr": mac.as_str().unwrap_or_default().to_uppercase()}),
        json!({"kernelpath": "/sys/devices/virtual/card"}),
        json!({"pciBusID": "0000:03:00.0"}),
        json!({"pciBusID": "0000:04:00.0"}),
        json!({"runtimeConfig": {"deviceID": "0000:03:00.0"}, "pciBusID": "0000:99:00.0"}),
        json!({"runtimeConfig": {"deviceID": "mlx5_core.sf.4"}}),
    ]
    .into_iter()
    .enumerate()
    {
        let conf = device(conf::with(json!({"device": null}), changes));
        let (pod, result) = place
            .attach(&conf, &format!("pod{number}"))
            .with_context(|| conf.to_string())?;
        reaches(&place, &pod, &result)?;
        place.plugins.check(&conf, &pod, &result)?.done()?;
        // The bus has forgotten the device by now, or the key is another.
        place
            .plugins
            .del(&device(json!({"device": "gone"})), &pod)?
            .done()?;
        place.snapshot()?.same_as(&before)?;
    }
    Ok(())
}

fn userspace() -> Result {
    let place = with_device()?;
    with_buses(&place)?;
    let conf = device(json!({"device": null, "pciBusID": "0000:05:00.0"}));
    let before = place.snapshot()?;
    let (pod, result) = place.attach(&conf, "pod")?;
    assert_eq!(
        result["interfaces"],
        json!([{"name": "eth0", "sandbox": pod.netns()}])
    );
    assert_eq!(result["ips"].as_array().map(Vec::len), Some(2));
    ensure!(lab::inspect::ip(pod.space(), "link show")?.len() == 1);
    place.plugins.check(&conf, &pod, &result)?.done()?;
    sh(
        place.node.space(),
        "rm -r /sys/bus/pci/devices/0000:05:00.0",
    )?;
    place.plugins.del(&conf, &pod)?.done()?;
    place.snapshot()?.same_as(&before)
}

fn alias() -> Result {
    let place = with_device()?;
    sh(
        place.node.space(),
        "ip link set dev0 alias 'port 7 of the switch'",
    )?;
    let before = place.snapshot()?;
    let (pod, _) = place.attach(&device(json!({})), "pod")?;
    place.plugins.del(&device(json!({})), &pod)?.done()?;
    place.snapshot()?.same_as(&before)?;
    sh(
        place.node.space(),
        &format!("ip link set dev0 alias {}", "x".repeat(251)),
    )?;
    let (code, message) = place.refused(&device(json!({})), "long")?;
    ensure!(
        code == 7 && message.contains("shorten it to 250 bytes"),
        "{code}: {message}"
    );
    Ok(())
}

fn bad_configurations() -> Result {
    let place = with_device()?;
    for (changes, part) in [
        (json!({"device": null}), "give one of"),
        (json!({"device": "gone"}), "no network device \"gone\""),
        (json!({"device": "lo"}), "cannot leave the host"),
        (
            json!({"device": null, "hwaddr": "here"}),
            "\"hwaddr\": \"here\"",
        ),
        (
            json!({"device": null, "hwaddr": "0a:00:00:00:00:99"}),
            "0a:00:00:00:00:99",
        ),
        (
            json!({"device": null, "kernelpath": "/etc"}),
            "\"kernelpath\": \"/etc\"",
        ),
        (
            json!({"device": null, "kernelpath": "/sys/devices/../../etc"}),
            "below /sys/devices",
        ),
        (
            json!({"device": null, "pciBusID": "0000:99:00.0"}),
            "0000:99:00.0",
        ),
        (
            json!({"device": null, "pciBusID": "../../net"}),
            "../../net",
        ),
        (
            json!({"runtimeConfig": {"deviceID": "nothing"}}),
            "runtimeConfig.deviceID",
        ),
        (json!({"device": 5}), "device"),
    ] {
        let (code, message) = place.refused(&device(changes), "pod")?;
        ensure!(
            code == 7 && message.contains(part),
            "{code}: {message} lacks {part:?}"
        );
    }
    place
        .plugins
        .status(&device(json!({"device": "gone"})))?
        .done()
}

fn check() -> Result {
    let place = with_device()?;
    for damage in [
        "ip link set eth0 down",
        "ip link set eth0 alias ''",
        "ip link set eth0 address 02:00:00:00:00:01",
        "ip address flush dev eth0",
        "ip route delete default",
        "ip link set eth0 down; ip link set eth0 name other",
    ] {
        let (pod, result) = place.attach(&device(json!({})), "pod")?;
        place
            .plugins
            .check(&device(json!({})), &pod, &result)?
            .done()?;
        sh(pod.space(), damage)?;
        let before = place.state(&pod)?;
        let reply = place.plugins.check(&device(json!({})), &pod, &result)?;
        reply.failure().context(damage)?;
        place.same(&pod, &before)?;
        sh(
            pod.space(),
            "ip link set other name eth0 2>/dev/null || ip link set eth0 alias dev0",
        )?;
        place.plugins.del(&device(json!({})), &pod)?.done()?;
        pod.unmount(false)?;
    }
    Ok(())
}

/// With the device there, with the namespace out of sight and the device in it, with the device gone.
fn del() -> Result {
    let place = Place::new()?;
    place
        .attach(
            &conf::with(device(json!({})), json!({"device": "up0"})),
            "warm",
        )
        .map(|(pod, _)| place.plugins.del(&device(json!({})), &pod))??
        .done()?;
    let before = place.snapshot()?;
    for condition in ["present", "empty", "missing", "file", "device gone"] {
        for keys in [
            json!({}),
            json!({"device": null, "pciBusID": "0000:99:00.0", "prevResult": {"ips": 7}}),
        ] {
            plug(&place, "dev0")?;
            let plugged = place.snapshot()?;
            let name = format!(
                "{condition}-{}",
                keys.as_object().map_or(0, |keys| keys.len())
            )
            .replace(' ', "-");
            let (pod, _) = place.attach(&device(json!({})), &name)?;
            let path = pod.netns().to_string_lossy().into_owned();
            match condition {
                "missing" => pod.unmount(false)?,
                "file" => pod.unmount(true)?,
                "device gone" => sh(pod.space(), "ip link delete eth0").map(drop)?,
                _ => {}
            }
            let netns = if condition == "empty" { "" } else { &path };
            for time in ["first", "second"] {
                let call = place.plugins.call("DEL", &device(keys.clone())).pod(&pod);
                let reply = call.netns(netns).send()?;
                reply
                    .done()
                    .with_context(|| format!("{name}, {time} DEL"))?;
            }
            if condition == "present" {
                place.snapshot()?.same_as(&plugged)?;
                sh(place.node.space(), "ip link delete dev0")?;
            } else {
                // It is still in the pod, which nobody can enter.
                let _ = sh(pod.space(), "ip link delete eth0");
            }
            place
                .snapshot()?
                .same_as(&before)
                .with_context(|| name.clone())?;
        }
    }
    Ok(())
}

/// A device whose pod has died is put on the host by the kernel, under whatever name is free.
fn put_back() -> Result {
    for (by, valid) in [("DEL", None), ("GC", Some("another")), ("GC", Some("pod"))] {
        let place = with_device()?;
        sh(
            place.node.space(),
            "ip link set dev0 alias 'port 7'; touch /run/netns/home; mount --bind /proc/self/ns/net /run/netns/home",
        )?;
        let before = place.snapshot()?;
        let (pod, _) = place.attach(&device(json!({})), "pod")?;
        sh(
            pod.space(),
            "ip link set eth0 down; ip link set eth0 name dev5; ip link set dev5 netns home",
        )?;
        pod.unmount(false)?;
        let held = place.snapshot()?;
        match valid {
            None => {
                let call = place.plugins.call("DEL", &device(json!({}))).pod(&pod);
                call.send()?.done()?;
                place.snapshot()?.same_as(&before)?;
            }
            Some(valid) => {
                place
                    .plugins
                    .gc(&device(json!({"name": "other"})), &[])?
                    .done()?;
                place.snapshot()?.same_as(&held)?;
                place
                    .plugins
                    .gc(&device(json!({})), &[(valid, "eth0")])?
                    .done()?;
                let expected = if valid == "pod" { &held } else { &before };
                place
                    .snapshot()?
                    .same_as(expected)
                    .with_context(|| format!("{by}, {valid} is valid"))?;
            }
        }
    }
    Ok(())
}

fn name_taken() -> Result {
    let place = with_device()?;
    let (pod, _) = place.attach(&device(json!({})), "pod")?;
    sh(
        place.node.space(),
        "ip link add dev0 type veth peer name other",
    )?;
    let (_, message) = place.plugins.del(&device(json!({})), &pod)?.failure()?;
    ensure!(message.contains("ip link set dev0 name OTHER"), "{message}");
    sh(place.node.space(), "ip link set dev0 name mine")?;
    place.plugins.del(&device(json!({})), &pod)?.done()?;
    ip_one(place.node.space(), "link show dev dev0").map(drop)
}

fn many_at_once() -> Result {
    let place = Place::new()?;
    let numbers = 0..16;
    for number in numbers.clone() {
        sh(
            place.node.space(),
            &format!("ip link add dev{number} type veth peer name p{number} netns world"),
        )?;
    }
    let before = place.snapshot()?;
    let pods: Vec<_> = numbers
        .map(|number| place.node.pod(&format!("pod{number}")))
        .collect::<Result<_>>()?;
    for verbs in [&["ADD"][..], &["DEL"; 3]] {
        let calls: Vec<_> = pods
            .iter()
            .enumerate()
            .flat_map(|(number, pod)| {
                let conf = device(json!({"device": format!("dev{number}")}));
                verbs.iter().map(move |verb| (verb, conf.clone(), pod))
            })
            .map(|(verb, conf, pod)| place.plugins.call(verb, &conf).pod(pod))
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
    place.snapshot()?.same_as(&before)
}

fn failed_add() -> Result {
    let place = with_device()?;
    sh(place.node.space(), "ip link set dev0 up alias home")?;
    for ipam in [
        // The gateway is not in the subnet, so the kernel refuses the route when the device is in the pod already.
        json!({"type": "static", "addresses": [{"address": "198.51.100.9/24", "gateway": "10.6.0.1"}], "routes": [{"dst": "0.0.0.0/0"}]}),
        json!({"type": "static"}),
    ] {
        place.refused(&device(json!({"ipam": ipam})), "pod")?;
    }
    Ok(())
}

fn each_call_failing() -> Result {
    with_device()?.add_with_each_call_failing(&device(json!({})))
}

fn old(changes: Value) -> Value {
    let ipam = json!({"type": "host-local", "subnet": "198.51.100.0/24"});
    device(conf::with(
        json!({"cniVersion": "1.0.0", "ipam": ipam}),
        changes,
    ))
}

fn leases(place: &Place) -> Result<String> {
    sh(
        place.node.space(),
        "ls /var/lib/cni/networks/lab | grep -c ^198 || true",
    )
}

fn against_the_reference() -> Result {
    held::against_the_reference(&[
        ("DEL with the namespace gone", |place| {
            plug(place, "dev0")?;
            let (pod, _) = place.attach(&old(json!({})), "pod")?;
            pod.unmount(false)?;
            place.plugins.del(&old(json!({})), &pod)?.done()
        }),
        ("DEL without a namespace keeps the lease", |place| {
            plug(place, "dev0")?;
            let (pod, _) = place.attach(&old(json!({})), "pod")?;
            let call = place.plugins.call("DEL", &old(json!({}))).pod(&pod);
            call.netns("").send()?.done()?;
            ensure!(leases(place)? == "0\n");
            Ok(())
        }),
        ("DEL twice", |place| {
            plug(place, "dev0")?;
            let (pod, _) = place.attach(&old(json!({})), "pod")?;
            place.plugins.del(&old(json!({})), &pod)?.done()?;
            place.plugins.del(&old(json!({})), &pod)?.done()
        }),
        ("DEL with the bus's device gone", |place| {
            plug(place, "dev0")?;
            with_buses(place)?;
            let conf = old(json!({"device": null, "pciBusID": "0000:03:00.0"}));
            let (pod, _) = place.attach(&conf, "pod")?;
            sh(
                place.node.space(),
                "rm -r /sys/bus/pci/devices/0000:03:00.0",
            )?;
            place.plugins.del(&conf, &pod)?.done()
        }),
        ("IPAM's DNS is lost", |place| {
            plug(place, "dev0")?;
            let ipam = json!({"type": "static", "addresses": [{"address": "198.51.100.9/24"}], "dns": {"nameservers": ["192.0.2.53"]}});
            let (_, result) = place.attach(&old(json!({"ipam": ipam})), "pod")?;
            ensure!(result["dns"]["nameservers"][0] == "192.0.2.53", "{result}");
            Ok(())
        }),
    ])
}

fn change_over() -> Result {
    let place = with_device()?;
    let theirs = lab::Plugins::reference(&place.node);
    for (adding, deleting) in [(&theirs, &place.plugins), (&place.plugins, &theirs)] {
        let pod = place.node.pod("pod")?;
        let result = adding.add(&old(json!({})), &pod)?.result()?;
        deleting
            .del(&lab::with_prev(&old(json!({})), &result), &pod)?
            .done()?;
        ip_one(place.node.space(), "link show dev dev0")?;
        pod.unmount(false)?;
    }
    Ok(())
}
