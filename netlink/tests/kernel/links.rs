//! Links of each kind: made, refused, and read.
use netlink::Handle;
use netlink::link::{Bridge, Vxlan, VxlanInfo};
use netlink::netns::Netns;
use nix::errno::Errno;
use serde_json::json;

use crate::sandbox::{another_netns, try_run};
use crate::tools::*;

pub fn a_veth_reaches_into_another_namespace() {
    let (mut host, pod) = (handle(), another_netns());
    let bridge = make_bridge(&mut host, "br0");
    let mut veth = veth("host0", "eth0", &pod);
    (veth.mtu, veth.master) = (Some(1432), Some(bridge));
    accept(&mut host, veth.request());

    let here = ip_one("link show dev host0");
    assert_eq!(here["linkinfo"]["info_kind"], "veth");
    assert_eq!(here["linkinfo"]["info_slave_kind"], "bridge");
    assert_eq!(
        (&here["mtu"], &here["master"]),
        (&json!(1432), &json!("br0"))
    );
    assert_eq!(here["address"], "02:00:00:00:00:01");
    assert!(has(&here["flags"], "UP"), "{here}");
    let there = pod.run(|| ip_one("link show dev eth0")).unwrap();
    assert_eq!(
        (&there["mtu"], &there["address"]),
        (&json!(1432), &json!("02:00:00:00:00:02"))
    );
    assert!(
        !has(&there["flags"], "UP"),
        "a peer cannot be born up: {there}"
    );
    assert_eq!(here["link_index"], there["ifindex"]);

    let seen = host.link("host0").unwrap().unwrap();
    assert_eq!(
        (seen.kind.as_deref(), seen.mtu, seen.up),
        (Some("veth"), 1432, true)
    );
    assert_eq!((seen.mac, seen.master), (Some(mac(1)), Some(bridge)));
    assert_eq!(seen.peer_index.map(Into::into), there["ifindex"].as_u64());
    assert_eq!(
        seen.peer_netns_id.map(i64::from),
        here["link_netnsid"].as_i64()
    );
    assert!(seen.peer_netns_id.is_some() && !seen.carrier, "{seen:?}");
    pod.run(|| sh("ip link set eth0 up")).unwrap();
    assert!(host.link("host0").unwrap().unwrap().carrier);
}

pub fn a_veth_whose_peer_stays_here_says_so() {
    let (mut host, here) = (handle(), Netns::current().unwrap());
    let mut pair = veth("one", "two", &here);
    pair.up = false;
    accept(&mut host, pair.request());
    let one = host.link("one").unwrap().unwrap();
    assert_eq!(
        (one.peer_index, one.peer_netns_id),
        (Some(index("two")), None)
    );
    assert!(!one.up && one.mtu == 1500, "{one:?}");
}

pub fn a_name_that_is_taken_on_either_side_is_refused() {
    let (mut host, pod) = (handle(), another_netns());
    accept(&mut host, veth("host0", "eth0", &pod).request());
    let error = refuse(&mut host, veth("host0", "eth1", &pod).request());
    assert_refused(&error, Errno::EEXIST, "create veth host0 with peer eth1");
    assert!(error.is_exists());
    assert!(
        Handle::in_netns(&pod)
            .unwrap()
            .link("eth1")
            .unwrap()
            .is_none()
    );
    let error = refuse(&mut host, veth("host1", "eth0", &pod).request());
    assert_refused(&error, Errno::EEXIST, "create veth host1 with peer eth0");
    assert!(try_run("ip", &["link", "show", "dev", "host1"]).is_err());
    let error = refuse(
        &mut host,
        Bridge {
            name: "host0",
            ..Bridge::default()
        }
        .request(),
    );
    assert_refused(&error, Errno::EEXIST, "create bridge host0");
}

pub fn a_bridge_is_born_down_with_its_mtu() {
    let mut host = handle();
    accept(
        &mut host,
        Bridge {
            name: "br0",
            mtu: Some(1300),
            vlan_filtering: false,
        }
        .request(),
    );
    let shown = ip_one("link show dev br0");
    assert_eq!(
        (&shown["mtu"], &shown["linkinfo"]["info_kind"]),
        (&json!(1300), &json!("bridge"))
    );
    assert_eq!(shown["linkinfo"]["info_data"]["vlan_filtering"], 0);
    assert!(!has(&shown["flags"], "UP"));
    let seen = host.link("br0").unwrap().unwrap();
    assert_eq!(seen.bridge.map(|bridge| bridge.vlan_filtering), Some(false));
    accept(
        &mut host,
        Bridge {
            name: "br1",
            ..Bridge::default()
        }
        .request(),
    );
    assert_eq!(ip_one("link show dev br1")["mtu"], 1500);
}

pub fn a_vxlan_device_is_what_was_asked_for() {
    let mut host = handle();
    for (name, vni, local, key) in [
        ("vx4", 4096, "192.0.2.1", "local"),
        ("vx6", 16_777_215, "2001:db8::1", "local6"),
    ] {
        let info = VxlanInfo {
            vni,
            local: Some(addr(local)),
            port: 8472,
            learning: vni == 4096,
        };
        accept(
            &mut host,
            Vxlan {
                name,
                info,
                mac: mac(7),
                mtu: 1350,
            }
            .request(),
        );
        let shown = ip_one(&format!("link show dev {name}"));
        let data = &shown["linkinfo"]["info_data"];
        assert_eq!(shown["linkinfo"]["info_kind"], "vxlan");
        assert_eq!(
            (&data["id"], &data[key], &data["port"]),
            (&json!(vni), &json!(local), &json!(8472))
        );
        assert_eq!(data["learning"], vni == 4096, "{data}");
        assert_eq!(
            (&shown["mtu"], &shown["address"]),
            (&json!(1350), &json!("02:00:00:00:00:07"))
        );
        assert!(has(&shown["flags"], "UP"), "{shown}");
        assert_eq!(host.link(name).unwrap().unwrap().vxlan, Some(info));
    }
    let info = VxlanInfo {
        vni: 4096,
        local: Some(addr("192.0.2.9")),
        port: 8472,
        learning: true,
    };
    let error = refuse(
        &mut host,
        Vxlan {
            name: "twin",
            info,
            mac: mac(8),
            mtu: 1350,
        }
        .request(),
    );
    assert_refused(&error, Errno::EEXIST, "create VXLAN device twin");
    assert_ne!(text(&error), "", "{error:?}");
}

pub fn what_it_has_carried_is_counted() {
    let mut host = handle();
    let index = index("lo");
    sh("ip link set lo up");
    let before = host.counters(index).unwrap().unwrap();
    std::net::UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .send_to(&[0; 100], "127.0.0.1:9")
        .unwrap();
    let after = host.counters(index).unwrap().unwrap();
    assert!(after.tx_packets > before.tx_packets);
    assert!(after.rx_bytes >= before.rx_bytes + 128, "{after:?}");
    assert_eq!(host.counters(4_000_000).unwrap(), None);
}
