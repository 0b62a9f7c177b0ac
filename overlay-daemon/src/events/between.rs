//! What is new in one status after another: pure, and nothing when nothing has changed.

use std::collections::BTreeMap;

use itertools::{EitherOrBoth, Itertools};

use super::{Kind, News};
use crate::doctor::Verdict;
use crate::status::{Peer, Status};

/// More peers than this to which the same happened are told of together: a cluster's start is not a page of news.
const EACH: usize = 8;
/// How many of them are named then.
const NAMED: usize = 3;

/// What happened between `old` and `new`. Before the daemon's first pass over the kernel there is `Status::default()`.
pub fn between(old: &Status, new: &Status) -> Vec<News> {
    let mut news = own(old, new);
    news.extend(kernel(old, new));
    news.extend(peers(old, new));
    news.extend(health(old, new));
    news
}

/// This node's CIDRs and place on the underlay.
fn own(old: &Status, new: &Status) -> Vec<News> {
    let mut news = Vec::new();
    let mut add = |kind, verdict, text: String, remedy: Option<&str>| {
        news.push(News {
            kind,
            verdict,
            object: new.node.clone(),
            text,
            remedy: remedy.map(str::to_owned),
        });
    };
    let (before, now) = (
        old.pod_cidrs.iter().join(", "),
        new.pod_cidrs.iter().join(", "),
    );
    match (old.pod_cidrs.is_empty(), new.pod_cidrs.is_empty()) {
        _ if before == now => {}
        (true, _) => add(
            Kind::PodCidrs,
            Verdict::Good,
            format!("has the pod CIDRs {now}"),
            None,
        ),
        (_, true) => add(
            Kind::PodCidrs,
            Verdict::Bad,
            format!("has lost its pod CIDRs {before}"),
            Some("`heddle status` says who is to give it new ones"),
        ),
        _ => add(
            Kind::PodCidrs,
            Verdict::Note,
            format!("has the pod CIDRs {now} now, and had {before}"),
            Some("pods with addresses of the old ones have to go: `kubectl drain`"),
        ),
    }
    let place = |status: &Status| (status.underlay.clone(), status.endpoints.clone());
    match &new.underlay {
        _ if place(old) == place(new) => {}
        Some(underlay) => add(
            Kind::Underlay,
            Verdict::Good,
            format!("is at {} on {underlay}", new.endpoints.iter().join(", ")),
            None,
        ),
        None => add(
            Kind::Underlay,
            Verdict::Bad,
            "has no address on the underlay any more".to_owned(),
            Some("give the interface one, or set \"underlay\" to another"),
        ),
    }
    if let (Some(before), Some(now)) = (old.mtu, new.mtu)
        && before != now
    {
        add(
            Kind::Underlay,
            Verdict::Note,
            format!("has an overlay MTU of {now} now, and had {before}"),
            Some("pods that run keep theirs until they are made anew"),
        );
    }
    news
}

/// Rows that were written: as planned with something else that is new, or because somebody had changed them.
fn kernel(old: &Status, new: &Status) -> Vec<News> {
    let own = |status: &Status| {
        (
            status.pod_cidrs.clone(),
            status.underlay.clone(),
            status.endpoints.clone(),
            status.mtu,
        )
    };
    let is_planned = old.passes == 0 || own(old) != own(new) || !same_ways(old, new);
    let changes = new.changes.iter().filter_map(|(kind, count)| {
        let more = count.saturating_sub(old.changes.get(kind).copied().unwrap_or_default());
        (more > 0).then_some((kind, more))
    });
    let news = changes.map(|(kind, more)| {
        let changed = format!("{more} changed in the kernel");
        let (verdict, text, remedy) = match is_planned {
            true => (Verdict::Good, changed, None),
            false => (
                Verdict::Note,
                format!("{changed}, put right: no node had changed"),
                Some("`heddle doctor` names programs that manage others' interfaces".to_owned()),
            ),
        };
        News {
            kind: Kind::Kernel,
            verdict,
            object: kind.clone(),
            text,
            remedy,
        }
    });
    news.collect()
}

/// Whether every peer is reached as it was; nothing is copied, because there may be thousands.
fn same_ways(old: &Status, new: &Status) -> bool {
    let is_same = |((old_name, old), (name, new)): ((&String, &Peer), (&String, &Peer))| {
        old_name == name
            && old.path == new.path
            && old.endpoint == new.endpoint
            && old.pod_cidrs == new.pod_cidrs
    };
    old.peers.len() == new.peers.len() && old.peers.iter().zip(&new.peers).all(is_same)
}

/// Readiness, and each problem that came or went; those of peers are told of with the peers.
fn health(old: &Status, new: &Status) -> Vec<News> {
    let say = |kind, verdict, text: &str, remedy: Option<&str>| News {
        kind,
        verdict,
        object: new.node.clone(),
        text: text.to_owned(),
        remedy: remedy.map(str::to_owned),
    };
    let of_a_peer = |problem: &str| {
        let name = problem.split(": ").next().unwrap_or_default();
        old.peers.contains_key(name) || new.peers.contains_key(name)
    };
    let beyond = |these: &Status, those: &Status| -> Vec<String> {
        let only = these
            .problems
            .iter()
            .filter(|problem| !those.problems.contains(problem) && !of_a_peer(problem));
        only.cloned().collect()
    };
    let mut news = Vec::new();
    for problem in beyond(new, old) {
        news.push(say(Kind::Problem, Verdict::Bad, &problem, None));
    }
    for problem in beyond(old, new) {
        let text = format!("no longer: {problem}");
        news.push(say(Kind::Problem, Verdict::Good, &text, None));
    }
    match (old.ready, new.ready) {
        (false, true) => news.push(say(Kind::Health, Verdict::Good, "ready", None)),
        (true, false) => news.push(say(
            Kind::Health,
            Verdict::Bad,
            "not ready",
            Some("`heddle status` names every problem"),
        )),
        _ => {}
    }
    news
}

/// What happened to a peer: in general, so that others are told of with it, and in particular.
struct Change<'a> {
    kind: Kind,
    verdict: Verdict,
    general: String,
    particular: Option<String>,
    remedy: Option<String>,
    name: &'a str,
}

fn peers(old: &Status, new: &Status) -> Vec<News> {
    let mut changes = Vec::new();
    // Side by side, because to look each up among thousands takes longer.
    for row in new
        .peers
        .iter()
        .merge_join_by(&old.peers, |a, b| a.0.cmp(b.0))
    {
        match row {
            EitherOrBoth::Both((name, peer), (_, before)) => {
                changes.extend(path(name, before, peer));
                changes.extend(state(name, Some(before), peer));
            }
            EitherOrBoth::Left((name, peer)) => {
                changes.push(appeared(name, peer));
                changes.extend(state(name, None, peer));
            }
            EitherOrBoth::Right((name, _)) => changes.push(Change {
                kind: Kind::PeerGone,
                verdict: Verdict::Note,
                general: "is gone, and its rows with it".to_owned(),
                particular: None,
                remedy: None,
                name,
            }),
        }
    }
    let mut groups: BTreeMap<(Kind, String), Vec<Change>> = BTreeMap::new();
    for change in changes {
        let key = (change.kind, change.general.clone());
        groups.entry(key).or_default().push(change);
    }
    groups.into_values().flat_map(tell).collect()
}

/// One by one where they are few, together where they are many.
fn tell(group: Vec<Change>) -> Vec<News> {
    let each = |change: Change| News {
        kind: change.kind,
        verdict: change.verdict,
        object: change.name.to_owned(),
        text: match change.particular {
            Some(particular) => format!("{}: {particular}", change.general),
            None => change.general,
        },
        remedy: change.remedy,
    };
    match &group[..] {
        [first, ..] if group.len() > EACH => {
            let names: Vec<&str> = group.iter().take(NAMED).map(|one| one.name).collect();
            vec![News {
                kind: first.kind,
                verdict: first.verdict,
                object: format!("{} peers", group.len()),
                text: format!(
                    "{}: {} and {} more",
                    first.general,
                    names.join(", "),
                    group.len() - NAMED
                ),
                remedy: (first.verdict != Verdict::Good)
                    .then(|| "`heddle peers` shows each".to_owned()),
            }]
        }
        _ => group.into_iter().map(each).collect(),
    }
}

fn appeared<'a>(name: &'a str, peer: &Peer) -> Change<'a> {
    let endpoint = peer.endpoint.map(|ip| format!("at {ip}, {}", peer.path));
    Change {
        kind: Kind::PeerAppeared,
        verdict: Verdict::Good,
        general: "has appeared".to_owned(),
        particular: endpoint,
        remedy: None,
        name,
    }
}

fn path<'a>(name: &'a str, old: &Peer, new: &Peer) -> Option<Change<'a>> {
    let ip = |peer: &Peer| peer.endpoint.map_or("none".into(), |ip| ip.to_string());
    let general = match (old.path == new.path, old.endpoint == new.endpoint) {
        (true, true) => return None,
        (false, _) => format!("its path is {} now, and was {}", new.path, old.path),
        (true, false) => format!("it is at {} now, and was at {}", ip(new), ip(old)),
    };
    Some(Change {
        kind: Kind::PeerPath,
        verdict: Verdict::Note,
        general,
        particular: None,
        remedy: None,
        name,
    })
}

/// A new state; that it is being tried is none.
fn state<'a>(name: &'a str, old: Option<&Peer>, new: &Peer) -> Option<Change<'a>> {
    if old.is_some_and(|old| old.state == new.state) || new.state == "probing" {
        return None;
    }
    let trace = || {
        let base = new.pod_cidrs.first()?.network();
        Some(format!("`heddle doctor`; `heddle trace node {base}`"))
    };
    let (verdict, general, remedy) = match &*new.state {
        "established" => (Verdict::Good, "established".to_owned(), None),
        "waiting" => (Verdict::Note, "waits for its pod CIDR".to_owned(), None),
        "unreachable" => (Verdict::Bad, "unreachable".to_owned(), trace()),
        "failed" => (
            Verdict::Bad,
            "cannot be programmed".to_owned(),
            Some("`heddle doctor`".to_owned()),
        ),
        silent => (
            Verdict::Bad,
            format!("{silent}: its daemon is not heard"),
            Some(format!(
                "there: `systemctl status heddle`; if it never comes back, `heddle forget {name}`"
            )),
        ),
    };
    Some(Change {
        kind: Kind::PeerState,
        verdict,
        general,
        particular: new.reason.clone(),
        remedy,
        name,
    })
}
