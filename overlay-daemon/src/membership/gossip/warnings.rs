//! What gossip tells of other nodes' faults: another key, a clock that is off.

use std::net::IpAddr;
use std::time::Duration;

use crate::doctor::Verdict;
use crate::gossip::{Gossip, Time};
use crate::membership::{About, Warning};

/// What a clock may be off: claims are held for many times this.
const OFF: Duration = Duration::from_secs(30);

pub(super) fn warnings(gossip: &Gossip, now: Time, own: &str) -> Vec<Warning> {
    let strangers = gossip.strangers(now).map(|from| stranger(gossip, from));
    let clocks = gossip.nodes().filter_map(|member| {
        let began = Duration::from_micros(member.session);
        let ahead = began.saturating_sub(now.wall);
        (ahead > OFF).then(|| clock(&member.node.name, ahead, member.node.name == own))
    });
    strangers.chain(clocks).collect()
}

/// Whoever is known by that address is meant to be heard; anybody else may be an intruder, or a node that is to join.
fn stranger(gossip: &Gossip, from: IpAddr) -> Warning {
    let mut nodes = gossip.nodes().map(|member| &member.node);
    let known = nodes.find(|node| node.endpoints.contains(&from));
    let who = match known {
        Some(node) => format!("{} at {from}", node.name),
        None => format!("whoever is at {from}"),
    };
    Warning {
        about: About::Keys,
        verdict: match known {
            Some(_) => Verdict::Bad,
            None => Verdict::Note,
        },
        text: format!(
            "gossip from {who} cannot be opened: it is sealed with a key that this node does not have"
        ),
        remedy:
            "give all nodes the same \"keys\" in /etc/heddle/heddle.toml, and restart the daemons"
                .to_owned(),
    }
}

/// By the time at which its daemon says that it began. Rounded, as it becomes less with every look.
fn clock(name: &str, ahead: Duration, is_own: bool) -> Warning {
    let minutes = ahead.as_secs().div_ceil(60);
    let text = match is_own {
        true => format!("this node's clock was set back by {minutes} minutes or more"),
        false => format!(
            "{name}'s clock is ahead of this node's by {minutes} minutes, or was so when its daemon began"
        ),
    };
    Warning {
        about: About::Clock,
        verdict: Verdict::Bad,
        text,
        remedy: format!("on {name}: timedatectl set-ntp true, then systemctl restart heddle"),
    }
}
