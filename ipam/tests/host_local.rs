//! `host-local`: the reference's scenarios, its bytes on disk, and where Heddle does better.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use common::{Leases, add, addresses, call, call_with, env, refused};
use ipam::HostLocal;
use serde_json::json;

#[test]
fn bytes_on_disk_are_those_of_the_reference() {
    let leases = Leases::new();
    let conf =
        leases.conf(json!({"ranges": [[{"subnet": "10.31.0.0/24"}], [{"subnet": "fd00::/64"}]]}));
    assert_eq!(add("k1", &conf), "10.31.0.2,fd00::2");
    assert_eq!(leases.read("10.31.0.2"), "k1\r\neth0");
    assert_eq!(leases.read("fd00::2"), "k1\r\neth0");
    assert_eq!(leases.read("last_reserved_ip.0"), "10.31.0.2");
    assert_eq!(leases.read("last_reserved_ip.1"), "fd00::2");
    assert_eq!(leases.read("lock"), "");
    let mode = |name: &str| {
        fs::metadata(leases.dir().join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(
        (
            mode("10.31.0.2"),
            mode("last_reserved_ip.0"),
            mode("lock"),
            mode("")
        ),
        (0o600, 0o600, 0o750, 0o755)
    );
}

#[test]
fn addresses_go_round() {
    let leases = Leases::new();
    let conf = leases.conf(json!({"subnet": "10.0.0.0/29"}));
    let first: Vec<_> = (0..5)
        .map(|index| add(&format!("k{index}"), &conf))
        .collect();
    assert_eq!(
        first,
        ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]
    );
    let (code, message) = refused(call("ADD", "k5", &conf));
    assert_eq!(code, 11);
    assert!(message.starts_with("failed to allocate for range 0: no IP addresses available in range set: 10.0.0.1-10.0.0.6"), "{message}");
    call("DEL", "k1", &conf).unwrap();
    call("DEL", "k3", &conf).unwrap();
    // Behind the last one given out, and round: not the one that came free last.
    assert_eq!(add("k6", &conf), "10.0.0.3");
    assert_eq!(add("k7", &conf), "10.0.0.5");
    // The one given out last is tried last.
    call("DEL", "k7", &conf).unwrap();
    assert_eq!(add("k8", &conf), "10.0.0.5");
}

#[test]
fn several_ranges_are_one_pool_and_several_sets_one_address_each() {
    let leases = Leases::new();
    let pool = json!([{"subnet": "10.1.0.0/30"}, {"subnet": "10.2.0.0/30"}]);
    let conf = leases.conf(json!({"ranges": [pool, [{"subnet": "10.3.0.0/24", "rangeStart": "10.3.0.9", "gateway": "10.3.0.10"}]]}));
    assert_eq!(add("a", &conf), "10.1.0.2,10.3.0.9");
    assert_eq!(add("b", &conf), "10.2.0.2,10.3.0.11");
    let (_, message) = refused(call("ADD", "c", &conf));
    assert!(
        message.contains("range set: 10.1.0.1-10.1.0.2,10.2.0.1-10.2.0.2"),
        "{message}"
    );
    // The second set's address was not taken for nothing.
    assert_eq!(
        leases.names(),
        ["10.1.0.2", "10.2.0.2", "10.3.0.11", "10.3.0.9"]
    );
}

#[test]
fn edges_of_ranges_and_of_ipv6() {
    for (range, expected) in [
        (
            json!({"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.0"}),
            "10.0.0.0",
        ),
        (
            json!({"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.255", "rangeEnd": "10.0.0.255"}),
            "10.0.0.255",
        ),
        (
            json!({"subnet": "10.0.0.0/24", "gateway": "10.0.0.254"}),
            "10.0.0.1",
        ),
        (
            json!({"subnet": "fd00::/64", "rangeStart": "fd00::ffff:ffff:ffff:ffff"}),
            "fd00::ffff:ffff:ffff:ffff",
        ),
        (json!({"subnet": "::/0"}), "::2"),
        (json!({"subnet": "0.0.0.0/0"}), "0.0.0.2"),
    ] {
        let leases = Leases::new();
        assert_eq!(add("k", &leases.conf(range.clone())), expected, "{range}");
    }
}

#[test]
fn requests_are_all_honoured_or_none() {
    let leases = Leases::new();
    let ranges = json!({"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "fd00::/64"}]]});
    let conf = leases.conf(ranges.clone());
    let with = |source: &str, ips: &[&str]| {
        let mut conf = conf.clone();
        match source {
            "args" => conf["args"] = json!({"cni": {"ips": ips}}),
            _ => conf["runtimeConfig"] = json!({"ips": ips}),
        }
        conf
    };
    let by_args = call_with(&HostLocal, &env("ADD", "a", "eth0", "IP=10.0.0.50"), &conf);
    assert_eq!(addresses(&by_args), ["10.0.0.50", "fd00::2"]);
    assert_eq!(
        add("b", &with("args", &["fd00::50", "10.0.0.51"])),
        "10.0.0.51,fd00::50"
    );
    assert_eq!(
        add("c", &with("runtime", &["10.0.0.52/8"])),
        "10.0.0.52,fd00::51"
    );
    let before = leases.names();
    for (ips, part) in [
        (
            &["10.0.0.50"][..],
            "requested IP address 10.0.0.50 is not available in range set 10.0.0.1-10.0.0.254",
        ),
        (&["10.0.0.1"], "gateway"),
        (
            &["192.0.2.1"],
            "failed to allocate all requested IPs: 192.0.2.1",
        ),
        (
            &["10.0.0.60", "10.0.0.61"],
            "failed to allocate all requested IPs: 10.0.0.61",
        ),
        (&["fd00::50"], "fd00::50 is not available"),
    ] {
        let (code, message) = refused(call("ADD", "d", &with("runtime", ips)));
        assert!(code == 7 && message.contains(part), "{code}: {message}");
        assert_eq!(leases.names(), before, "{ips:?}");
    }
    // A MAC is for the caller, and no reason to fail.
    call_with(
        &HostLocal,
        &env("ADD", "e", "eth0", "MAC=02:00:00:00:00:01"),
        &conf,
    )
    .unwrap();
}

#[test]
fn ranges_of_the_runtime_come_first() {
    let leases = Leases::new();
    let mut conf =
        leases.conf(json!({"subnet": "10.0.0.0/24", "ranges": [[{"subnet": "10.1.0.0/24"}]]}));
    conf["runtimeConfig"] = json!({"ipRanges": [[{"subnet": "10.2.0.0/24"}]]});
    assert_eq!(add("k", &conf), "10.2.0.2,10.0.0.2,10.1.0.2");
    assert_eq!(leases.read("last_reserved_ip.0"), "10.2.0.2");
}

#[test]
fn interfaces_of_one_container_are_apart_and_none_gets_two() {
    let leases = Leases::new();
    let conf = leases.conf(json!({"subnet": "10.0.0.0/24"}));
    let on = |verb, ifname| call_with(&HostLocal, &env(verb, "k", ifname, ""), &conf);
    assert_eq!(addresses(&on("ADD", "eth0")), ["10.0.0.2"]);
    assert_eq!(addresses(&on("ADD", "eth1")), ["10.0.0.3"]);
    let (code, message) = refused(on("ADD", "eth0"));
    assert!(
        code == 4
            && message
                .contains("10.0.0.2 has been allocated to k, duplicate allocation is not allowed"),
        "{code}: {message}"
    );
    // The reference lets a request by.
    let mut asking = conf.clone();
    asking["runtimeConfig"] = json!({"ips": ["10.0.0.77"]});
    refused(call("ADD", "k", &asking));
    on("DEL", "eth0").unwrap();
    assert_eq!(leases.names(), ["10.0.0.3"]);
    assert_eq!(addresses(&on("ADD", "eth0")), ["10.0.0.4"]);
}

#[test]
fn old_leases_without_an_interface_are_released() {
    let leases = Leases::new();
    let conf = leases.conf(json!({"subnet": "10.0.0.0/24"}));
    leases.write("10.0.0.7", "k\n");
    leases.write("10.0.0.8", "  other \r\n");
    call("DEL", "k", &conf).unwrap();
    assert_eq!(leases.names(), ["10.0.0.8"]);
    call("DEL", "nobody", &conf).unwrap();
    call(
        "DEL",
        "k",
        &Leases::new().conf(json!({"subnet": "10.0.0.0/24"})),
    )
    .unwrap();
}

#[test]
fn del_needs_no_valid_ranges() {
    let leases = Leases::new();
    add("k", &leases.conf(json!({"subnet": "10.0.0.0/24"})));
    call(
        "DEL",
        "k",
        &leases.conf(json!({"ranges": [[{"subnet": "nonsense"}]], "resolvConf": "/none"})),
    )
    .unwrap();
    assert_eq!(leases.names(), [""; 0]);
}

#[test]
fn what_others_do_to_the_leases_is_seen() {
    let leases = Leases::new();
    let conf = leases.conf(json!({"subnet": "10.0.0.0/28"}));
    add("a", &conf);
    // Another writer leases and releases behind our back, in the same tick of the clock.
    for round in 0..50 {
        let name = format!("10.0.0.{}", 3 + round % 10);
        leases.write(&name, "theirs\r\neth0");
        assert!(
            call("CHECK", "theirs", &conf).is_ok(),
            "round {round}: a new lease is not seen"
        );
        fs::remove_file(leases.dir().join(&name)).unwrap();
        assert!(
            call("CHECK", "theirs", &conf).is_err(),
            "round {round}: a removed lease is not seen"
        );
    }
    leases.write("10.0.0.9", "theirs\r\neth0");
    call("DEL", "theirs", &conf).unwrap();
    assert_eq!(leases.names(), ["10.0.0.2"]);
}

#[test]
fn a_lost_or_damaged_index_is_made_anew() {
    let leases = Leases::new();
    let conf = leases.conf(json!({"subnet": "10.0.0.0/24"}));
    let index = leases.data_dir().join(".heddle/net");
    for damage in [0, 1, 2] {
        add("k", &conf);
        match damage {
            0 => fs::remove_dir_all(leases.data_dir().join(".heddle")).unwrap(),
            1 => fs::write(index.join("garbage"), "x").unwrap(),
            _ => {
                for entry in fs::read_dir(&index).unwrap() {
                    let path = entry.unwrap().path();
                    fs::remove_file(&path).unwrap();
                    symlink("nonsense", path).unwrap();
                }
            }
        }
        refused(call("ADD", "k", &conf));
        call("DEL", "k", &conf).unwrap();
        assert_eq!(leases.names(), [""; 0], "damage {damage}");
    }
}

#[test]
fn leases_of_an_earlier_boot_are_reclaimed_when_the_range_is_exhausted() {
    let leases = Leases::new();
    let conf = leases.conf(json!({"subnet": "10.0.0.0/29"}));
    for id in ["a", "b", "c", "d"] {
        add(id, &conf);
    }
    let index = leases.data_dir().join(".heddle/net");
    let times = File::open(leases.dir())
        .unwrap()
        .metadata()
        .unwrap()
        .modified()
        .unwrap();
    // As after a reboot: two owners were noted down under another boot id.
    let mut aged = 0;
    for entry in fs::read_dir(&index).unwrap() {
        let path = entry.unwrap().path();
        let target = fs::read_link(&path)
            .unwrap()
            .into_os_string()
            .into_string()
            .unwrap();
        if target.ends_with(" 10.0.0.3") || target.ends_with(" 10.0.0.4") {
            fs::remove_file(&path).unwrap();
            symlink(
                format!("an-earlier-boot {}", target.split(' ').nth(1).unwrap()),
                &path,
            )
            .unwrap();
            aged += 1;
        }
    }
    assert_eq!(aged, 2);
    File::open(&index).unwrap().set_modified(times).unwrap();
    // As long as there is room they stay: their pods' DEL may still come.
    assert_eq!(add("e", &conf), "10.0.0.6");
    assert_eq!(leases.names().len(), 5);
    call("STATUS", "", &conf).unwrap();
    assert_eq!(add("f", &conf), "10.0.0.3");
    assert_eq!(add("g", &conf), "10.0.0.4");
    let (_, message) = refused(call("ADD", "h", &conf));
    assert!(message.contains("5 of 5"), "{message}");
    refused(call("STATUS", "", &conf));
}

#[test]
fn empty_leases_of_a_power_cut_are_reclaimed() {
    let leases = Leases::new();
    let conf = leases.conf(json!({"subnet": "10.0.0.0/29"}));
    for last in 2..=6 {
        leases.write(&format!("10.0.0.{last}"), "");
    }
    add("k", &conf);
    let mut asking = conf.clone();
    leases.write("10.0.0.5", "");
    asking["runtimeConfig"] = json!({"ips": ["10.0.0.5"]});
    assert_eq!(add("fixed", &asking), "10.0.0.5");
}

#[test]
fn garbage_as_the_last_address_starts_anew() {
    let leases = Leases::new();
    let conf = leases.conf(json!({"subnet": "10.0.0.0/24"}));
    leases.write("last_reserved_ip.0", "garb\0age");
    assert_eq!(add("k", &conf), "10.0.0.2");
    leases.write("last_reserved_ip.0", "192.0.2.1");
    assert_eq!(add("l", &conf), "10.0.0.3");
}

#[test]
fn check_compares_with_the_result() {
    let leases = Leases::new();
    let conf = leases.conf(json!({"subnet": "10.0.0.0/24"}));
    let mut checked = conf.clone();
    checked["prevResult"] = call("ADD", "k", &conf).unwrap();
    call("CHECK", "k", &checked).unwrap();
    checked["prevResult"]["ips"][0]["address"] = "10.0.0.9/24".into();
    let (_, message) = refused(call("CHECK", "k", &checked));
    assert!(message.contains("10.0.0.9"), "{message}");
    // An address of somebody else's range is none of our business.
    checked["prevResult"]["ips"][0]["address"] = "192.0.2.9/24".into();
    call("CHECK", "k", &checked).unwrap();
    call("DEL", "k", &conf).unwrap();
    refused(call("CHECK", "k", &checked));
}

#[test]
fn gc_frees_what_is_not_valid() {
    let leases = Leases::new();
    let mut conf = leases.conf(json!({"subnet": "10.0.0.0/24"}));
    for id in ["live", "stale"] {
        add(id, &conf);
    }
    leases.write("10.0.0.20", "old-stale");
    leases.write("10.0.0.21", "live");
    leases.write("10.0.0.22", "live\r\neth9");
    call("GC", "", &conf).unwrap();
    assert_eq!(leases.names().len(), 5, "without a list nothing is stale");
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        conf[key] = json!([{"containerID": "live", "ifname": "eth0"}]);
        call("GC", "", &conf).unwrap();
        assert_eq!(leases.names(), ["10.0.0.2", "10.0.0.21"]);
    }
}

#[test]
fn the_wait_for_the_lock_ends_and_names_the_holder() {
    let leases = Leases::new();
    let conf = leases.conf(json!({"subnet": "10.0.0.0/24"}));
    add("k", &conf);
    let lock = File::open(leases.dir().join("lock")).unwrap();
    lock.lock().unwrap();
    let (code, message) = refused(call("ADD", "l", &conf));
    let holder = format!("process {}", std::process::id());
    assert!(
        code == 11 && message.contains(&holder) && message.contains("lock"),
        "{code}: {message}"
    );
    lock.unlock().unwrap();
    let waiting = std::thread::scope(|scope| {
        lock.lock().unwrap();
        let waiting = scope.spawn(|| add("l", &conf));
        std::thread::sleep(Duration::from_millis(30));
        lock.unlock().unwrap();
        waiting.join().unwrap()
    });
    assert_eq!(waiting, "10.0.0.3");
}

#[test]
fn many_at_once_get_different_addresses() {
    let leases = Leases::new();
    let conf = leases.conf(json!({"subnet": "10.0.0.0/16"}));
    let mut all: Vec<String> = std::thread::scope(|scope| {
        let conf = &conf;
        let threads: Vec<_> = (0..16)
            .map(|thread| {
                scope.spawn(move || {
                    (0..20)
                        .map(|pod| add(&format!("k{thread}-{pod}"), conf))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 320);
    assert_eq!(leases.names(), all);
}
