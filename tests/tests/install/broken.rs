//! Installations that fail, are killed, or meet another one.
use std::env;
use std::fs;

use anyhow::{Context, anyhow, ensure};
use lab::{Node, Output, Result};

use crate::machine::*;
use crate::newer;

pub fn full_disk() -> Result {
    for (options, words) in [
        ("size=512k", "No space left on device"),
        ("ro", "Read-only file system"),
    ] {
        let node = node()?;
        tmpfs(&node, BIN, options)?;
        let before = files(&node, false)?;
        refused(&node, "--with-conf", 1, words)?;
        same(&node, &before)?;
    }
    // There is room for one: an upgrade that fails leaves the version that was there.
    let node = node()?;
    tmpfs(&node, BIN, "size=2500k")?;
    done(&node, "")?;
    newer(&node)?;
    let before = files(&node, false)?;
    refused(&node, "", 1, "No space left on device")?;
    let (is_manifest, now) = (
        |line: &&String| line.contains(".heddle.manifest"),
        files(&node, false)?,
    );
    let others = |lines: &[String]| {
        lines
            .iter()
            .filter(|line| !is_manifest(line))
            .cloned()
            .collect::<Vec<_>>()
    };
    ensure!(others(&now) == others(&before), "{now:#?}");
    node.command(format!("{BIN}/bridge"))
        .env("CNI_COMMAND", "VERSION")
        .stdin("{\"cniVersion\":\"1.0.0\"}")
        .ok()?;
    Ok(())
}

/// Two programs of others, one of which is replaced: everything that the script does to files.
fn with_others() -> Result<(Node, Vec<String>)> {
    let node = node()?;
    write(&node, &format!("{BIN}/bridge"), "another")?;
    let before = files(&node, false)?;
    Ok((node, before))
}

pub fn each_rename_failing() -> Result {
    for turn in 1.. {
        let (node, before) = with_others()?;
        let calls = "renameat2,renameat,rename";
        let output = nth_mv(
            &node,
            turn,
            &format!("exec strace -qq -o /run/trace -e inject={calls}:error=EIO /bin/mv \"$@\""),
        )?;
        if output.status.success() {
            ensure!(turn > 8, "only {turn} renames");
            return Ok(());
        }
        ensure!(output.status.code() == Some(1), "{turn}: {output:?}");
        same(&node, &before).with_context(|| format!("with rename {turn} failing: {output:?}"))?;
        done(&node, "--with-conf --replace")?;
    }
    Ok(())
}

/// Installs with a `mv` that does `deed` in its n-th run and what it should in all others.
fn nth_mv(node: &Node, turn: u32, deed: &str) -> Result<Output> {
    let script = format!(
        "#!/bin/sh\necho >>/run/count\n[ $(wc -l </run/count) = {turn} ] || exec /bin/mv \"$@\"\n{deed}\n"
    );
    write(node, "/run/fake/mv", &script)?;
    let path = format!("/run/fake:{}", env::var("PATH")?);
    let start = format!("echo $$ >/run/installer; exec {ARCHIVE}/install.sh --with-conf --replace");
    node.command("sh")
        .args(["-c", &start])
        .env("PATH", path)
        .output()
}

pub fn killed_at_each_rename() -> Result {
    for turn in 1.. {
        let (node, before) = with_others()?;
        let output = nth_mv(&node, turn, "kill -9 $(cat /run/installer)")?;
        if output.status.success() {
            ensure!(turn > 8, "only {turn} renames");
            return Ok(());
        }
        let half = || -> Result {
            let there = node.run(|| fs::exists(format!("{BIN}/heddle-cni")))?;
            ensure!(!there || is_whole(&node)?, "a half executable");
            ensure!(
                links_to_us(&node, "bridge") || read(&node, "/opt/cni/bin/bridge")? == "another",
                "bridge is lost"
            );
            if turn % 2 == 0 {
                done(&node, "--with-conf --replace")?;
                ensure!(is_whole(&node)? && links_to_us(&node, "bridge"));
            }
            done(&node, "--uninstall")?;
            same(&node, &before)
        };
        half().with_context(|| format!("killed at rename {turn}: {:#?}", files(&node, false)))?;
    }
    Ok(())
}

pub fn two_at_a_time() -> Result {
    let (node, before) = with_others()?;
    let runs: Vec<_> = (0..4)
        .map(|_| {
            let there = node.clone();
            node.spawn(move || done(&there, "--with-conf --replace"))
        })
        .collect();
    for run in runs {
        run.join()
            .map_err(|_| anyhow!("an installation panicked"))??;
    }
    ensure!(is_whole(&node)? && links_to_us(&node, "bridge"));
    done(&node, "--uninstall")?;
    same(&node, &before)
}
