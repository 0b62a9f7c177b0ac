//! The turns of the probes, by a clock that the test moves.
use super::*;
use crate::plan::Way;

const STEP: Duration = Duration::from_millis(50);

fn peers(names: &[&str]) -> BTreeMap<String, Reach> {
    let peer = |number: usize, name: &&str| {
        let cidr = format!("10.32.{number}.0/24").parse().expect("a CIDR");
        let reach = Reach {
            ways: [(cidr, Way::Vxlan)].into(),
            mtu: Some(1450),
            ..Reach::default()
        };
        ((*name).to_owned(), reach)
    };
    names
        .iter()
        .enumerate()
        .map(|(n, name)| peer(n, name))
        .collect()
}

#[test]
fn everyone_has_a_turn_and_nobody_two_within_two_beats() {
    let mut probes = Probes::default();
    probes.follow(&peers(&["a", "b", "c"]));
    let start = Instant::now();
    let sent: Vec<IpAddr> = (0..38)
        .filter_map(|step| probes.beat(start + STEP * step))
        .map(|(address, _)| address)
        .collect();
    assert_eq!(sent.len(), 3, "{sent:?}");
    assert!(probes.beat(start + EACH).is_some());
}

#[test]
fn what_is_not_answered_within_a_second_is_lost_and_two_of_them_are_news() {
    let mut probes = Probes::default();
    probes.follow(&peers(&["a"]));
    let start = Instant::now();
    assert!(probes.beat(start).is_some());
    assert!(probes.beat(start + PATIENCE + STEP).is_none());
    assert_eq!((probes.lost, probes.turns), (1, 0));
    assert!(probes.beat(start + EACH).is_some());
    probes.beat(start + EACH + PATIENCE + STEP);
    assert_eq!((probes.lost, probes.turns), (2, 1));
    let peer = probes.get("a").expect("the peer");
    assert!(!peer.is_answered() && !peer.is_new());
    assert_eq!(peer.loss_percent(), 100);
}

#[test]
fn an_answer_counts_once_and_only_for_who_owes_it() {
    let mut probes = Probes::default();
    probes.follow(&peers(&["a"]));
    let start = Instant::now();
    probes.beat(start);
    probes.answer(7, start + STEP);
    assert_eq!(probes.get("a").and_then(|peer| peer.rtt), None);
    probes.answer(1, start + STEP);
    probes.answer(1, start + STEP * 2);
    let peer = probes.get("a").expect("the peer");
    assert_eq!((peer.rtt, peer.loss_percent()), (Some(STEP), 0));
    assert!(peer.is_answered());
}

#[test]
fn who_is_new_comes_first_and_who_is_gone_is_forgotten() {
    let mut probes = Probes::default();
    probes.follow(&peers(&["a"]));
    let start = Instant::now();
    probes.beat(start);
    probes.follow(&peers(&["b"]));
    assert!(probes.get("a").is_none());
    let next = probes.beat(start + STEP).map(|(address, _)| address);
    assert_eq!(next, probes.get("b").map(|peer| peer.address));
    assert_eq!((probes.queue.len(), probes.waiting.len()), (1, 1));
}
