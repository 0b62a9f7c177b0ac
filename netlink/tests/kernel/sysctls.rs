//! Settings under `/proc/sys`.
use netlink::sysctl;
use nix::errno::Errno;

use crate::sandbox::another_netns;
use crate::tools::*;

const FORWARD: &str = "net/ipv4/ip_forward";

pub fn they_are_read_and_written_in_the_threads_namespace() {
    let pod = another_netns();
    let shown = || sh("cat /proc/sys/net/ipv4/ip_forward").trim().to_owned();
    sysctl::set(FORWARD, "0").unwrap();
    pod.run(|| sysctl::set(FORWARD, "1").unwrap()).unwrap();
    assert_eq!(
        (shown(), sysctl::get(FORWARD).unwrap()),
        ("0".into(), "0".into())
    );
    let there = pod
        .run(|| (shown(), sysctl::get(FORWARD).unwrap()))
        .unwrap();
    assert_eq!(there, ("1".into(), "1".into()));
}

pub fn ensure_writes_only_what_differs() {
    sysctl::set(FORWARD, "0").unwrap();
    assert!(sysctl::ensure(FORWARD, "1").unwrap());
    assert_eq!(sh("cat /proc/sys/net/ipv4/ip_forward").trim(), "1");
    assert!(!sysctl::ensure(FORWARD, "1").unwrap());
    // This one cannot be written at all: no write is tried where it has the value already.
    let read_only = "net/netfilter/nf_conntrack_count";
    let count = sysctl::get(read_only).unwrap();
    assert!(!sysctl::ensure(read_only, &count).unwrap());
}

pub fn a_name_with_a_dot_needs_no_escape() {
    sh("ip link add br0.5 type bridge");
    sysctl::set("net/ipv4/conf/br0.5/rp_filter", "2").unwrap();
    assert_eq!(
        sh("cat /proc/sys/net/ipv4/conf/br0.5/rp_filter").trim(),
        "2"
    );
    assert_eq!(sysctl::get("net/ipv4/conf/br0.5/rp_filter").unwrap(), "2");
}

pub fn what_is_missing_or_wrong_is_named() {
    let missing = sysctl::get("net/ipv4/conf/nowhere/rp_filter").unwrap_err();
    assert!(missing.is_not_found(), "{missing}");
    let said = missing.to_string();
    assert!(
        said.starts_with("cannot read sysctl net/ipv4/conf/nowhere/rp_filter: "),
        "{said}"
    );
    assert!(
        sysctl::set("net/ipv4/conf/nowhere/rp_filter", "1")
            .unwrap_err()
            .is_not_found()
    );
    let wrong = sysctl::set(FORWARD, "perhaps").unwrap_err();
    assert_eq!(wrong.errno(), Some(Errno::EINVAL));
    let said = wrong.to_string();
    assert!(
        said.starts_with("cannot set sysctl net/ipv4/ip_forward to perhaps: "),
        "{said}"
    );
}
