//! Permanent neighbours.
use netlink::Neighbour;
use nix::errno::Errno;
use serde_json::{Value, json};

use crate::tools::*;

fn neighbour(dev: u32, ip: &str, last: u8) -> Neighbour {
    Neighbour {
        dev,
        ip: addr(ip),
        mac: mac(last),
        protocol: Some(176),
    }
}

fn shown(dev: &str, to: &str) -> Value {
    let all = ip(&format!("neighbour show dev {dev}"));
    all.into_iter()
        .find(|neighbour| neighbour["dst"] == to)
        .unwrap_or_default()
}

pub fn they_are_made_replaced_and_deleted() {
    let mut host = handle();
    let dev = make_bridge(&mut host, "br0");
    for ip in ["10.0.0.2", "fd00::2"] {
        accept(&mut host, neighbour(dev, ip, 0x22).replace());
        let seen = shown("br0", ip);
        assert_eq!(seen["lladdr"], "02:00:00:00:00:22");
        assert_eq!(
            (&seen["state"], &seen["protocol"]),
            (&json!(["PERMANENT"]), &json!("176"))
        );
        accept(&mut host, neighbour(dev, ip, 0x33).replace());
        assert_eq!(shown("br0", ip)["lladdr"], "02:00:00:00:00:33");
        assert_eq!(host.neighbours(dev).unwrap(), [neighbour(dev, ip, 0x33)]);
        accept(&mut host, neighbour(dev, ip, 0x33).delete());
        assert_eq!(shown("br0", ip), Value::Null);
        let error = refuse(&mut host, neighbour(dev, ip, 0x33).delete());
        assert_refused(
            &error,
            Errno::ENOENT,
            &format!("delete neighbour {ip} on link {dev}"),
        );
    }
    let error = refuse(&mut host, neighbour(4242, "10.0.0.2", 1).replace());
    assert_refused(
        &error,
        Errno::ENODEV,
        "replace neighbour 10.0.0.2 on link 4242",
    );
}

pub fn only_permanent_ones_of_the_link_are_listed() {
    let mut host = handle();
    let (one, two) = (make_bridge(&mut host, "br1"), make_bridge(&mut host, "br2"));
    sh(
        "ip neighbour add 10.0.0.2 lladdr 02:00:00:00:00:02 dev br1 nud permanent protocol 176
        ip neighbour add 10.0.0.3 lladdr 02:00:00:00:00:03 dev br1 nud reachable
        ip neighbour add 10.0.0.4 dev br1 nud noarp lladdr 02:00:00:00:00:04
        ip neighbour add fd00::5 lladdr 02:00:00:00:00:05 dev br1 nud permanent
        ip neighbour add 10.0.0.6 lladdr 02:00:00:00:00:06 dev br2 nud permanent",
    );
    let mut listed = host.neighbours(one).unwrap();
    listed.sort_by_key(|neighbour| neighbour.ip);
    let foreign = Neighbour {
        protocol: None,
        ..neighbour(one, "fd00::5", 5)
    };
    assert_eq!(listed, [neighbour(one, "10.0.0.2", 2), foreign]);
    assert_eq!(host.neighbours(two).unwrap().len(), 1);
    let all = ip("neighbour show dev br1 nud all");
    let made = all.iter().map(|neighbour| neighbour["lladdr"].to_string());
    let made = made.filter(|mac| mac.starts_with("\"02:00:00:00:00"));
    assert_eq!(made.count(), 4, "the others are there: {all:?}");
    accept(&mut host, neighbour(one, "10.0.0.3", 9).replace());
    assert_eq!(
        shown("br1", "10.0.0.3")["state"],
        json!(["PERMANENT"]),
        "a learnt one gives way"
    );
}
