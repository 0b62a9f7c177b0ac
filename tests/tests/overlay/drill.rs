//! The drill: faults are made one after the other, and the first mark of the answer is the true cause, every time.
mod faults;

use std::fs;
use std::time::Duration;

use anyhow::{Context, ensure};
use lab::drill::{Asked, Mark, names};
use lab::inspect::sh;
use lab::overlay::{Cluster, Member};
use lab::{Result, Space, wait};
use serde_json::Value;

use self::faults::{FAULTS, Fault, Place};
use crate::gossip::{self, THREE};

/// What the probes need to find out, and to find that it is over, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal has as many at least.
const COLUMNS: usize = 80;

/// A healthy node has no mark at all.
fn healthy(member: &Member) -> Result {
    let mark = Asked::Doctor.mark(member)?;
    ensure!(mark.is_none(), "{}: {mark:#?}", member.node.name());
    Ok(())
}

fn ask(member: &Member, fault: &Fault) -> Result<Option<Mark>> {
    fault.asked.mark(member)
}

pub fn each() -> Result {
    let mut cluster = Cluster::fixed("")?;
    cluster.pods()?;
    cluster.members[0].add_pod("beside")?;
    wait::until(PATIENCE, "health", || {
        cluster.members.iter().try_for_each(healthy)
    })?;
    let member = &cluster.members[0];
    for fault in &FAULTS {
        let place: &Space = match fault.place {
            Place::Node | Place::Paused => member.node.space(),
            Place::Fabric => cluster.fabric.space(),
        };
        member.pause(fault.place == Place::Paused)?;
        // The daemon puts some of these right by itself, and now and then is first: then there was nothing to see.
        let seen = wait::until(PATIENCE, fault.name, || {
            sh(place, fault.inject)?;
            let mark = wait::until(fault.patience(), "mark", || {
                let mark = ask(member, fault)?;
                let text = mark.as_ref().map(|mark| mark.text.as_str());
                ensure!(
                    text.is_some_and(|text| text.contains(fault.said)),
                    "{mark:#?}"
                );
                Ok(mark)
            });
            let mended = sh(place, fault.mend);
            names(fault.name, fault.asked, mark?, fault.said, fault.remedy)?;
            mended.map(drop)
        });
        member.pause(false)?;
        seen.context(fault.name)?;
        // By what found it too: the doctor does not follow every route, and the daemon is stopped again by the next fault.
        wait::until(PATIENCE, "health", || {
            healthy(member)?;
            let mark = ask(member, fault)?;
            ensure!(mark.is_none(), "{mark:#?}");
            Ok(())
        })
        .context(fault.name)?;
    }
    fits(&cluster.members[0])?;
    cluster.members[2].stop(true)?;
    says(
        &cluster.members[0],
        "a daemon that has died",
        "n3 is unreachable: the node answers at 192.0.2.13, but no daemon runs there",
        "on n3: systemctl start heddle",
    )?;
    cluster.members[0].stop(true)?;
    says(
        &cluster.members[0],
        "the node's own daemon",
        "no daemon answers at /run/heddle/heddle.sock",
        "systemctl start heddle",
    )
}

/// What is printed for people fits a screen, but for words that are there to be copied.
fn fits(member: &Member) -> Result {
    for words in [
        "status",
        "peers",
        "events",
        "doctor",
        "trace node 10.32.3.1",
        "check",
    ] {
        let printed = member.heddle(words).output()?.stdout;
        let wide = |line: &&str| {
            let last = line.rsplit(' ').next().unwrap_or_default();
            line.chars().count() > COLUMNS && last.len() < COLUMNS / 2
        };
        let wide = printed.lines().find(wide);
        ensure!(wide.is_none(), "{words}: {wide:?}");
        ensure!(!printed.is_empty(), "{words} prints nothing");
    }
    Ok(())
}

fn says(member: &Member, fault: &str, said: &str, remedy: &str) -> Result {
    // What comes from another key is remembered for a minute, and until then it is named first.
    wait::until(PATIENCE * 2, fault, || {
        names(
            fault,
            Asked::Doctor,
            Asked::Doctor.mark(member)?,
            said,
            remedy,
        )
    })
}

/// Another key, and a clock that was wrong.
pub fn gossip() -> Result {
    let mut cluster = Cluster::new(&gossip::config(&THREE[..1], ""))?;
    cluster.start()?;
    cluster.ready()?;
    wait::until(PATIENCE, "health", || {
        cluster.members.iter().try_for_each(healthy)
    })?;
    again(&mut cluster.members[2], "/etc/heddle/heddle.toml", |text| {
        Ok(text.replace("the secret of this", "the secret of another"))
    })?;
    says(
        &cluster.members[0],
        "another key",
        "gossip from n3 at 192.0.2.13 cannot be opened",
        "the same \"keys\"",
    )?;
    again(&mut cluster.members[2], "/etc/heddle/heddle.toml", |text| {
        Ok(text.replace("the secret of another", "the secret of this"))
    })?;
    // As after a start with a clock that was an hour ahead: a session's number never becomes less.
    again(
        &mut cluster.members[2],
        "/var/lib/heddle/gossip.json",
        |text| {
            let mut stored: Value = serde_json::from_str(&text)?;
            let session = stored["session"].as_u64().context("a session")?;
            stored["session"] = (session + 3_600_000_000).into();
            Ok(stored.to_string())
        },
    )?;
    says(
        &cluster.members[0],
        "a clock that is off",
        "n3's clock is ahead of this node's",
        "timedatectl set-ntp true",
    )
}

/// Starts a node's daemon anew with another content of a file.
fn again(
    member: &mut Member,
    file: &str,
    change: impl Fn(String) -> Result<String> + Sync,
) -> Result {
    member.stop(true)?;
    member.node.run(|| -> Result {
        let text = change(fs::read_to_string(file)?)?;
        Ok(fs::write(file, text)?)
    })?;
    member.start()
}
