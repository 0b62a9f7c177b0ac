//! Installations into directories that are in use: by a running plugin, by another installation, or by nobody who may
//! write.
use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use lab::{Node, Result, wait};

use crate::broken::with_others;
use crate::machine::*;

/// Starts a plugin that waits for its configuration, for which it is told where to find it.
const PLUGIN: &str = "mkfifo /run/conf; echo $$ >/run/plugin; exec /opt/cni/bin/bridge </run/conf";

pub fn running_plugin() -> Result {
    let node = node()?;
    done(&node, "")?;
    let there = node.clone();
    let plugin = node.spawn(move || {
        let mut plugin = there.command("sh");
        plugin
            .args(["-c", PLUGIN])
            .env("CNI_COMMAND", "VERSION")
            .ok()
    });
    let patience = Duration::from_secs(10);
    let mut conf = wait::until(patience, "plugin that reads", || {
        node.run(|| Ok(fs::OpenOptions::new().write(true).open("/run/conf")?))
    })?;
    let ours = format!("{BIN}/heddle-cni");
    wait::until(patience, "running plugin", || {
        let busy = node.run(|| fs::OpenOptions::new().append(true).open(&ours).err());
        let busy = busy.context("it can be written")?;
        ensure!(busy.kind() == ErrorKind::ExecutableFileBusy, "{busy}");
        Ok(())
    })?;
    newer(&node)?;
    let said = done(&node, "")?;
    ensure!(
        said.contains("installed /opt/cni/bin/heddle-cni\n"),
        "{said}"
    );
    ensure!(is_whole(&node)?);
    std::io::Write::write_all(&mut conf, b"{\"cniVersion\":\"1.0.0\"}")?;
    drop(conf);
    let answer = plugin
        .join()
        .map_err(|_| anyhow!("the plugin's thread"))??;
    ensure!(answer.contains("supportedVersions"), "{answer}");
    Ok(())
}

/// The first one is held up when everything is made and nothing has its name yet.
pub fn two_at_a_time() -> Result {
    let (node, before) = with_others()?;
    let options = "--with-conf --replace";
    let there = node.clone();
    let first = node.spawn(move || {
        let slow = "inject=rename,renameat,renameat2:delay_enter=2000000:when=2";
        traced(&there, slow, options)
    });
    wait::until(Duration::from_secs(10), "staged file", || {
        ensure!(leftovers(&node)?.len() > 8);
        Ok(())
    })?;
    let others: Vec<_> = (0..3)
        .map(|_| {
            let there = node.clone();
            node.spawn(move || done(&there, options))
        })
        .collect();
    let first = first.join().map_err(|_| anyhow!("a thread"))??;
    ensure!(first.status.success(), "{first:?}");
    for other in others {
        let said = other.join().map_err(|_| anyhow!("a thread"))??;
        ensure!(said.starts_with("unchanged: "), "{said}");
    }
    ensure!(is_whole(&node)? && links_to_us(&node, "bridge"));
    done(&node, "--uninstall")?;
    same(&node, &before)
}

/// As on systems whose files come with an image.
pub fn read_only() -> Result {
    let node = node()?;
    tmpfs(&node, BIN, "mode=755")?;
    done(&node, "")?;
    // Preinstalled, so nobody made it.
    node.run(|| fs::remove_file(format!("{BIN}/.heddle.manifest")))?;
    remount(&node, "ro")?;
    let before = files(&node, true)?;
    for option in ["", "--bin-dir /opt/cni/bin"] {
        let said = done(&node, option)?;
        ensure!(said.starts_with("unchanged: /opt/cni/bin\n"), "{said}");
    }
    ensure!(done(&node, "--uninstall")?.starts_with("nothing to remove: "));
    newer(&node)?;
    remount(&node, "rw")?;
    node.run(|| fs::remove_file(format!("{BIN}/heddle-cni")))?;
    remount(&node, "ro")?;
    refused(
        &node,
        "",
        1,
        "cannot write /opt/cni/bin/.heddle.manifest: Read-only file system (os error 30): mount it for writing, or choose with --bin-dir",
    )?;
    let (now, mut before) = (files(&node, false)?, before);
    before.retain(|line| !line.contains("heddle-cni 1"));
    ensure!(now.len() == before.len(), "{before:#?} {now:#?}");
    Ok(())
}

fn remount(node: &Node, how: &str) -> Result {
    let mut mount = node.command("mount");
    let how = format!("remount,{how}");
    mount.args(["-o", &how, BIN]).ok().map(drop)
}
