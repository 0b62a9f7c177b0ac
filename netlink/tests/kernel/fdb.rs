//! The FDB of a VXLAN device.
use netlink::{FdbEntry, Mac};
use nix::errno::Errno;
use serde_json::Value;

use crate::tools::*;

fn row(dev: u32, last: u8, dst: &str) -> FdbEntry {
    FdbEntry {
        dev,
        mac: mac(last),
        dst: addr(dst),
    }
}

/// The destinations of one MAC, as `bridge` sees them.
fn shown(dev: &str, last: u8) -> Vec<Value> {
    let rows = bridge(&format!("fdb show dev {dev}"));
    let rows = rows
        .into_iter()
        .filter(|row| row["mac"] == mac(last).to_string());
    rows.map(|row| row["dst"].clone()).collect()
}

pub fn a_row_is_made_moved_and_deleted() {
    let mut host = handle();
    for (name, vni, local, peers) in [
        ("vx4", 1, "192.0.2.1", ["192.0.2.2", "192.0.2.3"]),
        ("vx6", 2, "2001:db8::1", ["2001:db8::2", "2001:db8::3"]),
    ] {
        let dev = make_vxlan(&mut host, name, vni, local);
        accept(&mut host, row(dev, 0x22, peers[0]).replace());
        assert_eq!(shown(name, 0x22), [peers[0]]);
        let whole = bridge(&format!("fdb show dev {name}"));
        let whole = whole.iter().find(|row| row["dst"] == peers[0]).unwrap();
        assert!(has(&whole["flags"], "self"), "{whole}");
        assert_eq!(whole["state"], "permanent");

        accept(&mut host, row(dev, 0x22, peers[1]).replace());
        assert_eq!(shown(name, 0x22), [peers[1]], "moved, not doubled");
        // The kernel passes this over without a word: what counts is that the row stays.
        accept(&mut host, row(dev, 0x22, peers[0]).delete());
        assert_eq!(shown(name, 0x22), [peers[1]]);
        accept(&mut host, row(dev, 0x22, peers[1]).delete());
        assert_eq!(shown(name, 0x22), [""; 0]);
        assert_eq!(host.fdb(dev).unwrap(), []);
        let error = refuse(&mut host, row(dev, 0x22, peers[1]).delete());
        assert_refused(
            &error,
            Errno::ENOENT,
            &format!("delete FDB entry 02:00:00:00:00:22 of link {dev}"),
        );
    }
}

pub fn rows_are_those_of_one_device() {
    let mut host = handle();
    let one = make_vxlan(&mut host, "vx1", 1, "192.0.2.1");
    let two = make_vxlan(&mut host, "vx2", 2, "192.0.2.1");
    let plain = make_bridge(&mut host, "br0");
    let rows = [
        row(one, 1, "192.0.2.2"),
        row(one, 2, "192.0.2.2"),
        row(two, 1, "192.0.2.3"),
    ];
    host.execute(rows.iter().map(FdbEntry::replace).collect())
        .unwrap();
    let sorted = |mut rows: Vec<FdbEntry>| {
        rows.sort_by_key(|row| (row.mac, row.dst));
        rows
    };
    assert_eq!(sorted(host.fdb(one).unwrap()), rows[..2]);
    assert_eq!(host.fdb(two).unwrap(), rows[2..]);
    assert_eq!(
        host.fdb(plain).unwrap(),
        [],
        "a bridge's own rows name no peer"
    );
    assert_eq!(host.fdb(4242).unwrap(), []);
    // Another's doing: no MAC at all, for frames to everybody, has a row for each peer.
    sh(
        "bridge fdb append 00:00:00:00:00:00 dev vx2 dst 192.0.2.8 self permanent
        bridge fdb append 00:00:00:00:00:00 dev vx2 dst 192.0.2.9 self permanent",
    );
    let to_all = |dst: &str| FdbEntry {
        mac: Mac::default(),
        ..row(two, 0, dst)
    };
    assert_eq!(
        sorted(host.fdb(two).unwrap()),
        [to_all("192.0.2.8"), to_all("192.0.2.9"), rows[2]]
    );
}

pub fn a_peer_of_the_other_family_is_refused() {
    let mut host = handle();
    let dev = make_vxlan(&mut host, "vx4", 1, "192.0.2.1");
    let error = refuse(&mut host, row(dev, 1, "2001:db8::2").replace());
    assert!(error.is_unsupported(), "{error:?}");
    let error = refuse(&mut host, row(4242, 1, "192.0.2.2").replace());
    assert_refused(
        &error,
        Errno::ENODEV,
        "replace FDB entry 02:00:00:00:00:01 of link 4242",
    );
}

pub fn five_thousand_rows_are_made_and_listed() {
    let mut host = handle();
    let dev = make_vxlan(&mut host, "vx4", 1, "192.0.2.1");
    let rows: Vec<_> = (0..5000_u32)
        .map(|number| {
            let [.., a, b] = number.to_be_bytes();
            let mac = [2, 0, 0, 1, a, b].into();
            FdbEntry {
                dev,
                mac,
                dst: [10, 0, a, b].into(),
            }
        })
        .collect();
    host.execute(rows.iter().map(FdbEntry::replace).collect())
        .unwrap();
    let seen = bridge("fdb show dev vx4");
    assert_eq!(
        seen.iter().filter(|row| row["dst"].is_string()).count(),
        5000
    );
    let mut listed = host.fdb(dev).unwrap();
    listed.sort_by_key(|row| row.mac);
    assert_eq!(listed, rows);
}
