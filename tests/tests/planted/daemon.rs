//! What the daemon writes, where its directories are configured among other people's.
use std::path::Path;

use anyhow::ensure;
use lab::overlay::Member;
use lab::{Fabric, Result};

use crate::{DIRECTORY, FILE, SHARED, plant, scene, untouched};

fn member(name: &str) -> Result<(Fabric, Member)> {
    let fabric = Fabric::new()?;
    fabric.switch(1)?;
    let config = format!(
        "peers = [\"192.0.1.11\"]\nkeys = [\"the secret of this laboratory\"]\nrun_dir = \"{SHARED}/run\"\n\
         state_dir = \"{SHARED}/state\"\ncni_conf_dir = \"{SHARED}/net.d\""
    );
    let member = Member::new(&fabric, name, 1, 11, &config)?;
    member.node.run(scene)?;
    Ok((fabric, member))
}

/// Each name that it writes, all at once: it becomes ready all the same, or says which one it cannot use.
pub fn files() -> Result {
    let (_fabric, mut member) = member("n1")?;
    let names = [
        "run/heddle.sock",
        "run/heddle.new",
        "run/cni-calls",
        "run/cni-calls.new",
        "run/cni-status",
        "run/cni-status.new",
        "state/gossip.json.new",
        "state/gossip.new",
        "state/sysctls.new",
        "state/sysctls.json",
        "net.d/10-heddle.conflist",
        "net.d/10-heddle.conflist.fenced",
    ];
    member.node.run(|| -> Result {
        for name in names {
            plant(&Path::new(SHARED).join(name), FILE)?;
        }
        Ok(())
    })?;
    member.start()?;
    member.wait_ready(0)?;
    member.stop(false)?;
    untouched(&member.node, "the daemon")?;
    // With its lock nothing is begun.
    member.node.run(|| -> Result {
        std::fs::remove_file(format!("{SHARED}/run/lock"))?;
        plant(&Path::new(SHARED).join("run/lock"), FILE)
    })?;
    let output = member.heddle("daemon").output()?;
    ensure!(
        !output.status.success() && output.stderr.contains("/run/lock"),
        "{output:?}"
    );
    untouched(&member.node, "the daemon's lock")
}

/// A directory that is a link of another user's: named, with what to do.
pub fn directories() -> Result {
    for name in ["run", "state", "net.d"] {
        let (_fabric, member) = member("n1")?;
        member
            .node
            .run(|| plant(&Path::new(SHARED).join(name), DIRECTORY))?;
        let output = member.heddle("daemon").output()?;
        ensure!(
            !output.status.success() && output.stderr.contains("symbolic link that user 1000"),
            "{name}: {output:?}"
        );
        untouched(&member.node, name)?;
    }
    Ok(())
}
