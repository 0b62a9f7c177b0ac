//! The image as an init container: no shell, no `/etc`, process ids of its own, and the node's directory mounted where it
//! has another path.
use std::fs;
use std::thread::JoinHandle;

use anyhow::{anyhow, ensure};
use lab::{Node, Output, Result, oci};

use crate::machine::*;

const MOUNTED: &str = "/host/opt/cni/bin";

/// Unpacks the image, and mounts the node's directory of plugins in it.
fn container(node: &Node, name: &str, version: u8) -> Result<String> {
    let root = format!("/run/{name}");
    for (file, mut bytes, _) in oci::heddle()?.files {
        if file == "heddle-cni" {
            bytes.push(version);
        }
        write(node, &format!("{root}/{file}"), bytes)?;
    }
    node.run(|| {
        fs::create_dir_all(format!("{root}/proc"))?;
        fs::create_dir_all(format!("{root}{MOUNTED}"))
    })?;
    let mut mount = node.command("mount");
    mount
        .args(["--bind", BIN, &format!("{root}{MOUNTED}")])
        .ok()?;
    Ok(root)
}

fn start(node: &Node, root: &str) -> JoinHandle<Result<Output>> {
    let (there, root) = (node.clone(), format!("--root={root}"));
    node.spawn(move || {
        let mut install = there.command("unshare");
        install.args(["--pid", "--fork", "--kill-child", "--mount-proc", &root]);
        install.args(["/heddle", "install", "--bin-dir", MOUNTED]);
        install.output()
    })
}

pub fn two_at_once() -> Result {
    let node = node()?;
    write(&node, &format!("{BIN}/bridge"), "another")?;
    let before = files(&node, false)?;
    let roots = [container(&node, "old", 1)?, container(&node, "new", 2)?];
    for _ in 0..5 {
        let running: Vec<_> = roots.iter().map(|root| start(&node, root)).collect();
        for installer in running {
            let output = installer.join().map_err(|_| anyhow!("a thread"))??;
            ensure!(
                output.status.success() && output.stderr.is_empty(),
                "{output:?}"
            );
            let left = "left alone: /host/opt/cni/bin/bridge is another's";
            ensure!(output.stdout.contains(left), "{output:?}");
        }
        let there = node.run(|| fs::read(format!("{BIN}/heddle-cni")))?;
        let shipped = |root: &str| node.run(|| fs::read(format!("{root}/heddle-cni")));
        ensure!(there == shipped(&roots[0])? || there == shipped(&roots[1])?);
        ensure!(leftovers(&node)?.is_empty(), "{:#?}", leftovers(&node)?);
        ensure!(links_to_us(&node, "loopback") && links_to_us(&node, "heddle-bridge"));
    }
    // The node knows what its container has made.
    done(&node, "--uninstall")?;
    same(&node, &before)
}
