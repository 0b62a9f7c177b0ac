//! A new version over an old one, also over one of the time when the installer was a shell script.
use std::os::unix::fs::symlink;

use anyhow::ensure;
use lab::Result;
use sha2::{Digest, Sha256};

use crate::machine::*;

pub fn upgrades() -> Result {
    let node = node()?;
    let empty = files(&node, false)?;
    done(&node, "--with-conf")?;
    newer(&node)?;
    let said = done(&node, "--with-conf")?;
    ensure!(
        said.contains("installed /opt/cni/bin/heddle-cni\n") && !said.contains("linked"),
        "{said}"
    );
    ensure!(is_whole(&node)?);
    done(&node, "--uninstall")?;
    same(&node, &empty)?;

    // What that script left, byte for byte.
    let old = "an older program";
    let sum = |text: &str| -> String {
        let digest = Sha256::digest(text);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    write(&node, &format!("{BIN}/bridge.before-heddle"), "another")?;
    write(&node, &format!("{BIN}/heddle-cni"), old)?;
    write(&node, CONF, "{}")?;
    let links = ["bridge", "heddle-bridge", "gone-since"];
    node.run(|| {
        let link = |name| symlink("heddle-cni", format!("{BIN}/{name}"));
        links.into_iter().try_for_each(link)
    })?;
    let mut manifest = format!(
        "dir {BIN}/none\nfile {} {BIN}/heddle-cni\nfile {} {CONF}\n",
        sum(old),
        sum("{}")
    );
    for name in links {
        manifest += &format!("link heddle-cni {BIN}/{name}\n");
    }
    manifest += &format!("saved {BIN}/bridge\n");
    write(&node, &format!("{BIN}/.heddle.manifest"), manifest)?;
    let said = done(&node, "--with-conf")?;
    for line in [
        "installed /opt/cni/bin/heddle-cni\n",
        "installed /etc/cni/net.d/10-heddle.conflist\n",
        "linked /opt/cni/bin/heddle-loopback\n",
    ] {
        ensure!(said.contains(line), "no {line:?} in {said}");
    }
    ensure!(is_whole(&node)? && links_to_us(&node, "bridge"), "{said}");
    done(&node, "--uninstall")?;
    ensure!(read(&node, "/opt/cni/bin/bridge")? == "another");
    let left = node.run(|| std::fs::read_dir(BIN).map(Iterator::count))?;
    ensure!(left == 1, "{:#?}", files(&node, false)?);
    Ok(())
}
