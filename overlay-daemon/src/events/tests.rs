//! What is news, what is not, and what is remembered of it.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::status::Peer;

fn peer(state: &'static str, path: &'static str) -> Peer {
    Peer {
        state: state.into(),
        path: path.into(),
        endpoint: Some("192.0.2.1".parse().unwrap()),
        pod_cidrs: vec!["10.32.2.0/24".parse().unwrap()],
        ..Peer::default()
    }
}

fn status(peers: impl IntoIterator<Item = (String, Peer)>) -> Status {
    Status {
        node: "n1".into(),
        ready: true,
        passes: 1,
        pod_cidrs: vec!["10.32.1.0/24".parse().unwrap()],
        underlay: Some("eth0".into()),
        mtu: Some(1450),
        peers: peers.into_iter().collect(),
        ..Status::default()
    }
}

fn one(state: &'static str, path: &'static str) -> Status {
    status([("n2".to_owned(), peer(state, path))])
}

/// Kind, verdict and text of everything that is new.
fn news(old: &Status, new: &Status) -> Vec<(Kind, Verdict, String)> {
    between(old, new)
        .into_iter()
        .map(|news| {
            (
                news.kind,
                news.verdict,
                format!("{}: {}", news.object, news.text),
            )
        })
        .collect()
}

#[test]
fn nothing_new_is_no_news() {
    let old = one("established", "vxlan");
    let mut new = old.clone();
    new.passes += 1;
    new.peers.get_mut("n2").unwrap().rtt_us = Some(7);
    assert_eq!(between(&old, &new), []);
    assert_eq!(between(&old, &one("probing", "vxlan")), []);
}

#[test]
fn each_change_is_named() {
    let old = one("established", "vxlan");
    let good = |kind, text: &str| (kind, Verdict::Good, text.to_owned());
    let note = |kind, text: &str| (kind, Verdict::Note, text.to_owned());
    let bad = |kind, text: &str| (kind, Verdict::Bad, text.to_owned());
    assert_eq!(
        news(&Status::default(), &old),
        [
            good(Kind::PodCidrs, "n1: has the pod CIDRs 10.32.1.0/24"),
            good(Kind::Underlay, "n1: is at  on eth0"),
            good(Kind::PeerAppeared, "n2: has appeared: at 192.0.2.1, vxlan"),
            good(Kind::PeerState, "n2: established"),
            good(Kind::Health, "n1: ready"),
        ]
    );
    assert_eq!(
        news(&old, &one("unreachable", "direct")),
        [
            bad(Kind::PeerState, "n2: unreachable"),
            note(Kind::PeerPath, "n2: its path is direct now, and was vxlan"),
        ]
    );
    let remedy = &between(&old, &one("unreachable", "vxlan"))[0].remedy;
    assert!(remedy.as_ref().unwrap().contains("trace node 10.32.2.0"));
    assert_eq!(
        news(&old, &status([])),
        [note(Kind::PeerGone, "n2: is gone, and its rows with it")]
    );
    let mut new = old.clone();
    new.pod_cidrs = vec!["10.32.9.0/24".parse().unwrap()];
    new.mtu = Some(1400);
    assert_eq!(
        news(&old, &new),
        [
            note(
                Kind::PodCidrs,
                "n1: has the pod CIDRs 10.32.9.0/24 now, and had 10.32.1.0/24"
            ),
            note(
                Kind::Underlay,
                "n1: has an overlay MTU of 1400 now, and had 1450"
            ),
        ]
    );
}

#[test]
fn problems_come_and_go() {
    let old = one("established", "vxlan");
    let mut new = old.clone();
    new.ready = false;
    // The peer's own event says that.
    new.problems = vec!["the disk is full".into(), "n2: it overlaps".into()];
    let texts: Vec<_> = news(&old, &new).into_iter().map(|news| news.2).collect();
    assert_eq!(texts, ["n1: the disk is full", "n1: not ready"]);
    let texts: Vec<_> = news(&new, &old).into_iter().map(|news| news.2).collect();
    assert_eq!(texts, ["n1: no longer: the disk is full", "n1: ready"]);
}

#[test]
fn a_row_that_nobody_planned_was_put_right() {
    let old = one("established", "vxlan");
    let changed = |mut status: Status| {
        status.changes.insert("route".into(), 2);
        status
    };
    let planned = news(&old, &changed(one("established", "direct")));
    assert_eq!(planned[0].1, Verdict::Good, "{planned:?}");
    let mended = news(&old, &changed(old.clone()));
    assert_eq!(
        mended,
        [(
            Kind::Kernel,
            Verdict::Note,
            "route: 2 changed in the kernel, put right: no node had changed".into()
        )]
    );
}

#[test]
fn many_are_told_of_together() {
    let many =
        |state: &'static str| status((0..200).map(|n| (format!("n{n:03}"), peer(state, "vxlan"))));
    let told = news(&many("established"), &many("unreachable"));
    let text = "200 peers: unreachable: n000, n001, n002 and 197 more";
    assert_eq!(told, [(Kind::PeerState, Verdict::Bad, text.into())]);
}

#[test]
fn the_ring_is_bounded_and_counts_what_is_repeated() {
    let mut ring = Ring::default();
    let news = |object: String| News {
        kind: Kind::PeerState,
        verdict: Verdict::Bad,
        object,
        text: "unreachable".into(),
        remedy: None,
    };
    for n in 0..2 * REMEMBERED {
        ring.add(news("flapping".into()), Timestamp::UNIX_EPOCH);
        ring.add(news(format!("n{n}")), Timestamp::UNIX_EPOCH);
    }
    assert_eq!(ring.events.len(), REMEMBERED);
    assert_eq!(ring.counts[&Kind::PeerState], 4 * REMEMBERED as u64);
    let flapping = &ring.events[REMEMBERED - 2];
    assert_eq!((&*flapping.news.object, flapping.count), ("flapping", 400));
}
