//! Ports of bridges: their settings and their VLANs.
use netlink::link::{self, Bridge, BridgePort, PortVlan};
use netlink::netns::Netns;
use nix::errno::Errno;
use serde_json::json;

use crate::sandbox::try_run;
use crate::tools::*;

pub fn vlans_are_set_or_refused_as_the_kernel_can() {
    let (mut host, here) = (handle(), Netns::current().unwrap());
    let able = try_run(
        "ip",
        &[
            "link",
            "add",
            "br9",
            "type",
            "bridge",
            "vlan_filtering",
            "1",
        ],
    );
    let filtering = Bridge {
        name: "br0",
        mtu: None,
        vlan_filtering: true,
    };
    let made = host.execute(vec![filtering.request()]);
    assert_eq!(made.is_ok(), able.is_ok(), "{made:?} {able:?}");
    if let Err(error) = made {
        assert!(error.is_unsupported(), "{error}");
        assert!(
            host.link("br0").unwrap().is_none(),
            "a refused bridge is not left behind"
        );
        let bridge = make_bridge(&mut host, "br0");
        let error = refuse(&mut host, link::set_vlan_filtering(bridge, true));
        assert_refused(
            &error,
            Errno::EOPNOTSUPP,
            &format!("set VLAN filtering of bridge {bridge}"),
        );
        return;
    }
    let filters = |shown: &str| ip_one(shown)["linkinfo"]["info_data"]["vlan_filtering"].clone();
    assert_eq!(filters("link show dev br0"), 1);
    let bridge = index("br0");
    let mut pair = veth("port", "far", &here);
    pair.master = Some(bridge);
    accept(&mut host, pair.request());
    let port = index("port");
    let tagged = PortVlan::add_tagged(port, 20, 22);
    host.execute(vec![
        PortVlan::add_native(port, 10),
        tagged,
        PortVlan::delete(port, 21),
    ])
    .unwrap();
    let shown = bridge_vlans("port");
    assert_eq!(shown, [1, 10, 20, 22]);
    let seen = host.port_vlans(port).unwrap();
    assert_eq!(seen.iter().map(|vlan| vlan.id).collect::<Vec<_>>(), shown);
    assert!(
        seen.iter().all(|vlan| vlan.native == (vlan.id == 10)),
        "{seen:?}"
    );
    accept(&mut host, link::set_vlan_filtering(bridge, false));
    assert_eq!(filters("link show dev br0"), 0);
}

fn bridge_vlans(port: &str) -> Vec<u16> {
    let shown = bridge(&format!("vlan show dev {port}"));
    let vlans = shown[0]["vlans"].as_array().unwrap().iter();
    vlans
        .map(|vlan| u16::try_from(vlan["vlan"].as_u64().unwrap()).unwrap())
        .collect()
}

pub fn port_settings_are_made_and_left_alone() {
    let (mut host, here) = (handle(), Netns::current().unwrap());
    let bridge = make_bridge(&mut host, "br0");
    let mut pair = veth("port", "far", &here);
    pair.master = Some(bridge);
    accept(&mut host, pair.request());
    let shown = || {
        let link = ip_one("link show dev port");
        let port = &link["linkinfo"]["info_slave_data"];
        (
            link["ifalias"].clone(),
            port["hairpin"].clone(),
            port["isolated"].clone(),
        )
    };
    assert_eq!(shown(), (json!(null), json!(false), json!(false)));
    let all = BridgePort {
        alias: Some("a port"),
        hairpin: Some(true),
        isolated: Some(true),
    };
    accept(&mut host, all.request("port"));
    assert_eq!(shown(), (json!("a port"), json!(true), json!(true)));
    let port = host.link("port").unwrap().unwrap();
    assert_eq!(port.alias.as_deref(), Some("a port"));
    let info = port.port.unwrap();
    assert!(
        info.hairpin && info.isolated && !info.forwarding,
        "{info:?}"
    );

    accept(
        &mut host,
        BridgePort {
            isolated: Some(false),
            ..BridgePort::default()
        }
        .request("port"),
    );
    assert_eq!(shown(), (json!("a port"), json!(true), json!(false)));
    let info = host.link("port").unwrap().unwrap().port.unwrap();
    assert!(info.hairpin && !info.isolated, "{info:?}");

    let longest = "x".repeat(255);
    let long = BridgePort {
        alias: Some(&longest),
        ..BridgePort::default()
    };
    accept(&mut host, long.request("port"));
    assert_eq!(shown().0, json!(longest));

    let error = refuse(&mut host, all.request("nowhere"));
    assert_refused(&error, Errno::ENODEV, "set up bridge port nowhere");
    let error = refuse(&mut host, all.request("far"));
    assert!(
        error
            .to_string()
            .starts_with("cannot set up bridge port far: "),
        "{error}"
    );
}
