//! Files of other programs, and files that someone changed: each is left alone, or comes back.
use std::fs;
use std::os::unix::fs::symlink;

use anyhow::ensure;
use lab::{Result, find};

use crate::machine::*;

pub fn leaves_others_alone() -> Result {
    let node = node()?;
    write(&node, &format!("{BIN}/bridge"), "another")?;
    write(&node, CONF, "another")?;
    let loopback = format!("{BIN}/loopback");
    node.run(|| symlink("/usr/bin/true", loopback))?;
    let before = files(&node, false)?;
    for _ in 0..2 {
        let said = done(&node, "--with-conf")?;
        for file in ["/opt/cni/bin/bridge", "/opt/cni/bin/loopback", CONF] {
            ensure!(
                said.contains(&format!("left alone: {file} is another's")),
                "{said}"
            );
        }
    }
    ensure!(links_to_us(&node, "heddle-bridge") && links_to_us(&node, "host-local"));
    done(&node, "--uninstall")?;
    same(&node, &before)?;

    // What is as it should be, but was not made by an installation, is not taken away by it either.
    let shipped = fs::read_to_string(find::workspace().join("conf/10-heddle.conflist"))?;
    write(&node, CONF, &shipped)?;
    let before = files(&node, false)?;
    done(&node, "--with-conf")?;
    done(&node, "--uninstall")?;
    same(&node, &before)
}

pub fn replaces_and_puts_back() -> Result {
    let node = node()?;
    for file in ["bridge", "heddle-cni"] {
        write(&node, &format!("{BIN}/{file}"), "another")?;
    }
    write(&node, CONF, "another")?;
    let before = files(&node, false)?;
    refused(
        &node,
        "--with-conf",
        1,
        "/opt/cni/bin/heddle-cni is not from an installation",
    )?;
    same(&node, &before)?;
    for _ in 0..2 {
        done(&node, "--with-conf --replace")?;
        ensure!(links_to_us(&node, "bridge") && is_whole(&node)?);
        for kept in ["/opt/cni/bin/bridge", "/opt/cni/bin/heddle-cni", CONF] {
            ensure!(read(&node, &format!("{kept}.before-heddle"))? == "another");
        }
    }
    done(&node, "--uninstall")?;
    same(&node, &before)
}

/// Links under the names of ours: none is written through, and each comes back.
pub fn follows_no_link() -> Result {
    let node = node()?;
    write(&node, "/run/victim", "theirs")?;
    let names = [
        &format!("{BIN}/heddle-cni"),
        &format!("{BIN}/bridge"),
        &format!("{BIN}/heddle-static"),
        CONF,
    ];
    node.run(|| -> Result {
        for directory in [BIN, "/etc/cni/net.d"] {
            fs::create_dir_all(directory)?;
        }
        for name in names {
            symlink("/run/victim", name)?;
        }
        Ok(())
    })?;
    let before = files(&node, false)?;
    done(&node, "--with-conf --replace")?;
    ensure!(links_to_us(&node, "bridge") && is_whole(&node)?);
    ensure!(read(&node, "/run/victim")? == "theirs");
    done(&node, "--uninstall")?;
    ensure!(read(&node, "/run/victim")? == "theirs");
    same(&node, &before)
}

pub fn keeps_every_copy() -> Result {
    let node = node()?;
    write(&node, &format!("{BIN}/bridge"), "another")?;
    write(&node, &format!("{BIN}/bridge.before-heddle"), "a third")?;
    let before = files(&node, false)?;
    refused(
        &node,
        "--replace",
        1,
        "/opt/cni/bin/bridge.before-heddle is where --replace would keep",
    )?;
    same(&node, &before)?;

    // A package that comes back over the link is kept in place of its older self.
    node.run(|| fs::remove_file(format!("{BIN}/bridge.before-heddle")))?;
    done(&node, "--replace")?;
    write(&node, &format!("{BIN}/bridge"), "another, newer")?;
    ensure!(done(&node, "")?.contains("left alone: /opt/cni/bin/bridge is another's"));
    done(&node, "--replace")?;
    ensure!(links_to_us(&node, "bridge"));
    done(&node, "--uninstall")?;
    ensure!(read(&node, "/opt/cni/bin/bridge")? == "another, newer");
    ensure!(!node.run(|| fs::exists("/opt/cni/bin/bridge.before-heddle"))?);
    Ok(())
}

pub fn leaves_changes_alone() -> Result {
    let node = node()?;
    done(&node, "--with-conf")?;
    write(&node, CONF, "changed")?;
    write(&node, &format!("{BIN}/heddle-static"), "changed")?;
    let said = done(&node, "--with-conf")?;
    ensure!(
        said.contains(&format!("left alone: {CONF} is another's")),
        "{said}"
    );
    let said = done(&node, "--uninstall")?;
    for file in [CONF, "/opt/cni/bin/heddle-static"] {
        ensure!(
            said.contains(&format!("left alone: {file} was changed")),
            "{said}"
        );
        ensure!(read(&node, file)? == "changed");
    }
    let left = node.run(|| fs::read_dir(BIN).map(Iterator::count))?;
    ensure!(left == 1, "{:#?}", files(&node, false)?);
    Ok(())
}
