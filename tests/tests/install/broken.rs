//! Installations that fail, or are ended, at every point where they can.
use std::fs;

use anyhow::{Context, ensure};
use lab::{Node, Output, Result};

use crate::machine::*;

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
    let size = node
        .run(|| fs::metadata(format!("{ARCHIVE}/dist/heddle-cni")))?
        .len();
    tmpfs(&node, BIN, &format!("size={}k", size * 5 / 4 / 1024))?;
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

/// Two programs of others, one of which is replaced: everything that the installer does to files.
pub fn with_others() -> Result<(Node, Vec<String>)> {
    let node = node()?;
    write(&node, &format!("{BIN}/bridge"), "another")?;
    let before = files(&node, false)?;
    Ok((node, before))
}

/// Installs again and again, with something happening to the first rename, to the second, …, until one installation has
/// no more of them.
fn at_each_rename(
    what: &str,
    mut check: impl FnMut(&Node, &[String], &Output, usize) -> Result,
) -> Result {
    for turn in 1.. {
        let (node, before) = with_others()?;
        let inject = format!("inject=rename,renameat,renameat2:{what}:when={turn}");
        let output = traced(&node, &inject, "--with-conf --replace")?;
        if output.status.success() {
            ensure!(turn > 8, "only {turn} renames");
            return Ok(());
        }
        check(&node, &before, &output, turn)
            .with_context(|| format!("rename {turn}: {output:?}, {:#?}", files(&node, false)))?;
    }
    Ok(())
}

pub fn each_rename_failing() -> Result {
    at_each_rename("error=EIO", |node, before, output, _| {
        ensure!(output.status.code() == Some(1), "another code");
        same(node, before)?;
        done(node, "--with-conf --replace").map(drop)
    })
}

/// A pod that is deleted in its init container.
pub fn terminated_at_each_rename() -> Result {
    at_each_rename("signal=TERM", |node, before, output, _| {
        ensure!(output.status.code() == Some(1), "another code");
        ensure!(
            output.stderr == "heddle: ended by SIGTERM; what was begun is taken back\n",
            "other words"
        );
        same(node, before)
    })
}

pub fn killed_at_each_rename() -> Result {
    at_each_rename("signal=KILL", |node, before, _, turn| {
        let there = node.run(|| fs::exists(format!("{BIN}/heddle-cni")))?;
        ensure!(!there || is_whole(node)?, "a half executable");
        ensure!(
            links_to_us(node, "bridge") || read(node, "/opt/cni/bin/bridge")? == "another",
            "bridge is lost"
        );
        if turn % 2 == 0 {
            done(node, "--with-conf --replace")?;
            ensure!(is_whole(node)? && links_to_us(node, "bridge"));
            ensure!(leftovers(node)?.is_empty(), "{:#?}", leftovers(node)?);
        }
        done(node, "--uninstall")?;
        same(node, before)
    })
}
