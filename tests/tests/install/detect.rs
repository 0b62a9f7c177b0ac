//! Where the runtimes say that plugins and configurations belong.
use std::env;
use std::fs;

use anyhow::ensure;
use lab::{Result, find};

use crate::machine::*;

pub fn detects() -> Result {
    let (bin, conf) = ("/opt/there", "/opt/conf");
    let containerd = "/etc/containerd/config.toml";
    let k3s = "/var/lib/rancher/k3s";
    let cases = [
        (
            containerd,
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\n  # bin_dir = \"/opt/no\"\n  bin_dir = \"/opt/there\"\n  conf_dir = \"/opt/conf\"\n",
            bin,
            conf,
        ),
        (
            containerd,
            "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dir = ''\nbin_dirs = ['/opt/there', '/opt/second']\nconf_dir = '/opt/conf'",
            bin,
            conf,
        ),
        (containerd, "version = 2\n", BIN, "/etc/cni/net.d"),
        (
            "/etc/crio/crio.conf.d/10.conf",
            "[crio.network]\nnetwork_dir = \"/opt/conf/\"\nplugin_dirs = [\n\t\"/opt/there\",\n\t\"/b\",\n]\n",
            bin,
            conf,
        ),
        (
            "/etc/crio/crio.conf",
            "[crio.network]\nplugin_dirs = [\n]\nnetwork_dir = \"/opt/conf\"\n",
            BIN,
            conf,
        ),
        (
            "/var/lib/rancher/k3s/data/cni/bridge",
            "",
            &format!("{k3s}/data/cni"),
            &format!("{k3s}/agent/etc/cni/net.d"),
        ),
        (
            "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
            "[plugins.cri.cni]\nbin_dir = \"/opt/there\"\n",
            bin,
            &format!("{k3s}/agent/etc/cni/net.d"),
        ),
    ];
    for (file, text, bin, conf) in cases {
        let node = node()?;
        if file.starts_with(k3s) {
            node.run(|| fs::create_dir_all(format!("{k3s}/agent")))?;
        }
        write(&node, file, text)?;
        let before = files(&node, false)?;
        done(&node, "--with-conf")?;
        for made in [
            format!("{bin}/heddle-cni"),
            format!("{conf}/10-heddle.conflist"),
        ] {
            ensure!(
                node.run(|| fs::exists(&made))?,
                "{file} with {text:?}: no {made}"
            );
        }
        done(&node, "--uninstall")?;
        node.run(|| fs::remove_dir("/opt/conf").ok());
        same(&node, &before)?;
    }
    two_runtimes()
}

fn two_runtimes() -> Result {
    let node = node()?;
    write(
        &node,
        "/etc/containerd/config.toml",
        "[plugins.cri.cni]\nbin_dir = \"/opt/one\"\n",
    )?;
    write(
        &node,
        "/etc/crio/crio.conf",
        "[crio.network]\nplugin_dirs = [\"/opt/two\"]\n",
    )?;
    let before = files(&node, false)?;
    done(&node, "--with-conf")?;
    for made in ["/opt/one/heddle-cni", "/opt/two/heddle-cni", CONF] {
        ensure!(node.run(|| fs::exists(made))?, "no {made}");
    }
    done(&node, "--uninstall")?;
    same(&node, &before)
}

pub fn podman_alone() -> Result {
    let node = node()?;
    if let Some(containerd) = find::program("containerd") {
        let mut hide = node.command("mount");
        hide.args(["--bind", "/dev/null"]).arg(containerd).ok()?;
    }
    write(&node, "/run/fake/podman", "#!/bin/sh\n")?;
    let path = format!("/run/fake:{}", env::var("PATH")?);
    let said = installer(&node, "").env("PATH", path).ok()?;
    ensure!(
        said.contains("/cni/heddle-cni\n") && !said.contains(BIN),
        "{said}"
    );
    // The directory is found again without podman.
    done(&node, "--uninstall")?;
    let left = node.run(|| fs::read_dir(find::reference_dir()).map(Iterator::count))?;
    ensure!(left == 0, "{left} files");
    Ok(())
}
