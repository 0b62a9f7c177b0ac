//! What commands print, kept as text in `docs/screens/`: of a healthy node and of one with a fault.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use heddle::check::Row;
use heddle::doctor::{Finding, Verdict};
use heddle::events::{Event, Kind, News};
use heddle::gc::Leftover;
use heddle::membership::{About, Warning};
use heddle::status::{Peer, Status};

use super::{check, doctor, events, gc, screen};

/// As wide as a terminal has at least.
const COLUMNS: usize = 80;

fn is_kept(name: &str, text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= COLUMNS, "{name}: {line}");
    }
    let file = format!("../docs/screens/{name}.txt");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("HEDDLE_WRITE_SCREENS").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        kept == text,
        "what is printed is not as {} has it: if that is meant, run with HEDDLE_WRITE_SCREENS=1:\n{text}",
        file.display()
    );
}

fn peer(host: u8) -> Peer {
    Peer {
        state: "established".into(),
        path: "vxlan".into(),
        endpoint: Some([192, 0, 2, host].into()),
        pod_cidrs: vec![
            format!("10.32.{host}.0/24").parse().unwrap(),
            format!("fd32:0:0:{host}::/64").parse().unwrap(),
        ],
        mtu: Some(1450),
        rtt_us: Some(412),
        loss_percent: Some(0),
        reason: None,
        next_probe_s: Some(1),
    }
}

fn healthy() -> Status {
    Status {
        node: "n1".into(),
        version: "0.1.0".into(),
        ready: true,
        pod_cidrs: peer(1).pod_cidrs,
        underlay: Some("eth0".into()),
        endpoints: vec![[192, 0, 2, 1].into()],
        mtu: Some(1450),
        conflist: Some("/etc/cni/net.d/10-heddle.conflist".into()),
        peers: [2, 3].map(|host| (format!("n{host}"), peer(host))).into(),
        passes: 17,
        writes: 12,
        notes: vec!["slot 5 of 256 is held".into()],
        ..Status::default()
    }
}

/// A peer that is silent, another that is too far away for its name, and all that can be said besides.
fn ill() -> Status {
    let mut status = healthy();
    let silent = status.peers.get_mut("n3").unwrap();
    silent.state = "unreachable".into();
    (silent.mtu, silent.rtt_us, silent.loss_percent) = (None, None, Some(100));
    let reason =
        "no probe through the overlay is answered: is UDP port 8472 open on the way and on n3?";
    silent.reason = Some(reason.into());
    let long = "ip-10-0-142-77.eu-central-1.compute.internal";
    status.peers.insert(long.into(), peer(4));
    status.ready = false;
    status.problems = vec![
        "the underlay eth0 has no address: give it one, or set \"underlay\" to another interface"
            .into(),
    ];
    status.drops = [("checksum".to_owned(), 7)].into();
    status.warnings = vec![Warning {
        about: About::Keys,
        verdict: Verdict::Bad,
        text: "gossip from n3 at 192.0.2.3 cannot be opened: it is sealed with a key that this node does not have".into(),
        remedy: "give all nodes the same \"keys\" in /etc/heddle/heddle.toml, and restart the daemons".into(),
    }];
    status
}

#[test]
fn status_and_peers() {
    is_kept("status", &screen::status(&healthy()));
    is_kept("status-faulty", &screen::status(&ill()));
    is_kept("peers", &screen::peers(&healthy()));
    let mut ill = ill();
    ill.peers.retain(|name, _| name.len() < 10);
    is_kept("peers-faulty", &screen::peers(&ill));
}

/// A name of the cloud's does not fit beside all columns: its line is whole, and the CIDRs stand below.
#[test]
fn a_long_name_is_not_cut() {
    let text = screen::peers(&ill());
    assert!(
        text.contains("ip-10-0-142-77.eu-central-1.compute.internal  192.0.2.4"),
        "{text}"
    );
    assert!(
        text.contains("\n    10.32.4.0/24, fd32:0:0:4::/64\n"),
        "{text}"
    );
}

#[test]
fn findings() {
    let finding = |check, verdict, text: &str, remedy: Option<&str>| Finding {
        check,
        verdict,
        text: text.into(),
        remedy: remedy.map(str::to_owned),
        fix: None,
    };
    let good = [
        finding(
            "kernel",
            Verdict::Good,
            "has all that is needed, by trying",
            None,
        ),
        finding("paths", Verdict::Good, "every one of 2 peers answers", None),
    ];
    is_kept("doctor", &doctor::screen(&good));
    let text =
        "iptables's FORWARD chain has the policy DROP: pods reach only pods of the same node";
    let remedy =
        "iptables -P FORWARD ACCEPT, or \"ingress_policy\" = \"open\" in the configuration";
    let bad = [
        finding("forwarding", Verdict::Bad, text, Some(remedy)),
        good[1].clone(),
    ];
    is_kept("doctor-faulty", &doctor::screen(&bad));
}

#[test]
fn events_and_leftovers() {
    let event = |count, verdict, text: &str, remedy: Option<&str>| Event {
        at: "2026-03-01T12:00:00Z".parse().unwrap(),
        count,
        news: News {
            kind: Kind::PeerState,
            verdict,
            object: "n3".into(),
            text: text.into(),
            remedy: remedy.map(str::to_owned),
        },
    };
    let reason = "is unreachable: no probe through the overlay is answered: is UDP port 8472 open on the way and on n3?";
    is_kept(
        "events",
        &events::screen(&[
            event(1, Verdict::Good, "established by vxlan", None),
            event(
                3,
                Verdict::Bad,
                reason,
                Some("heddle peers; on n3: heddle doctor"),
            ),
        ]),
    );
    let left = Leftover {
        kind: "lease",
        object: "10.32.1.77".into(),
        container: Some("8d1f".repeat(16)),
    };
    is_kept("gc", &(gc::line("left over", &left) + "\n"));
}

#[test]
fn rows() {
    let row = |to: &str, address: [u8; 4], rtt_us| Row {
        from: "pod",
        to: to.into(),
        address: address.into(),
        rtt_us,
        reason: None,
        remedy: None,
    };
    let good = [
        row("pod", [10, 32, 1, 3], Some(61)),
        row("n3", [10, 32, 3, 0], Some(412)),
    ];
    is_kept("check", &check::screen(&good));
    let lost = Row {
        reason: Some("iptables's chain FORWARD drops what no rule of it accepts: its policy is DROP, so nothing is forwarded".into()),
        remedy: Some("iptables -P FORWARD ACCEPT, or \"ingress_policy\" = \"open\" in the configuration".into()),
        ..row("n3", [10, 32, 3, 0], None)
    };
    is_kept("check-faulty", &check::screen(&[good[0].clone(), lost]));
}
