//! A cluster whose nodes run two versions of the daemon, upgraded and put back one by one.
use std::env;
use std::fs;

use anyhow::{Context, ensure};
use lab::overlay::{Cluster, Member};
use lab::probe::ping;
use lab::{Result, find};

use crate::resources::gossip;

/// Names the daemon of an earlier version.
pub const BEFORE: &str = "HEDDLE_BEFORE";

/// Ends the daemon, puts another program in its place, and starts that.
fn replace(member: &mut Member, program: &std::path::Path) -> Result {
    let program = fs::read(program).with_context(|| program.display().to_string())?;
    member.stop(false)?;
    member.node.run(|| -> Result {
        fs::write("/opt/cni/heddle.new", program)?;
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions("/opt/cni/heddle.new", executable)?;
        Ok(fs::rename("/opt/cni/heddle.new", "/opt/cni/heddle")?)
    })?;
    member.start()
}

/// Every mixture of the two, on the way there and back: the same shares, everybody established, pods that reach each other.
pub fn mixed() -> Result {
    let (before, today) = (env::var_os(BEFORE).context(BEFORE)?, find::heddle()?);
    let before = std::path::PathBuf::from(before);
    let mut cluster = Cluster::new(&gossip(""))?;
    cluster.start()?;
    cluster.ready()?;
    let pods = cluster.pods()?;
    let shares = |cluster: &Cluster| -> Result<Vec<String>> {
        let each = cluster.members.iter();
        each.map(|member| Ok(member.status()?["pod_cidrs"].to_string()))
            .collect()
    };
    let known = shares(&cluster)?;
    for program in [&before, &today] {
        for number in 0..3 {
            replace(&mut cluster.members[number], program)?;
            cluster
                .ready()
                .with_context(|| format!("n{} with {}", number + 1, program.display()))?;
            ensure!(shares(&cluster)? == known, "a share changed hands");
            for from in &pods {
                for to in pods.iter().filter(|to| to.addresses != from.addresses) {
                    ping(from.pod.space(), to.addresses[0])?;
                }
            }
        }
    }
    Ok(())
}
