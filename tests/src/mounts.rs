//! A node's private view of the files: what CNI and the runtimes write must never reach the host's directories.
use std::fs;
use std::path::Path;

use anyhow::Context;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::Result;

/// Directories that may be written freely: the host's content shows through, changes stay in memory.
const COPIED: [&str; 4] = ["/etc", "/opt", "/var/lib", "/var/log"];

/// Directories that begin empty, whatever the host has there, and are no overlays: those of CNI because an overlay would
/// cost an allocator more than any real disk does, containerd's because it makes overlays there itself.
const OWN: [&str; 5] = [
    "/etc/cni",
    "/opt/cni",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
];

/// What is expected in them.
const EXPECTED: [&str; 3] = ["/etc/cni/net.d", "/opt/cni/bin", "/var/lib/cni/networks"];

/// Turns the calling thread's new mount namespace into a disk: private propagation, and a `/run` that keeps what nodes
/// made from it write.
pub(crate) fn make_disk() -> Result {
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .context("making all mounts private")?;
    tmpfs("/run")
}

/// Turns the calling thread's copy of a disk into a node's files: an empty `/run` with `/run/netns`, a `/sys` of the
/// node's own network namespace, overlays over `/etc`, `/opt`, `/var/lib` and `/var/log`, own directories for CNI.
pub(crate) fn make_node() -> Result {
    // What is written lands on the disk's /run, which the final /run then hides.
    for (i, dir) in COPIED.iter().enumerate() {
        overlay(dir, Path::new(&format!("/run/{i}")))?;
    }
    for dir in OWN {
        let kept = format!("/run/own{}", dir.replace('/', "-"));
        for dir in [dir, &kept] {
            fs::create_dir_all(dir).context(dir.to_owned())?;
        }
        bind(&kept, dir)?;
    }
    sysfs()?;
    tmpfs("/run")?;
    for dir in ["/run/netns", "/run/lock"] {
        fs::create_dir(dir).context(dir)?;
    }
    for dir in EXPECTED {
        fs::create_dir_all(dir).context(dir)?;
    }
    Ok(())
}

fn bind(what: &str, at: &str) -> Result {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(what), at, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("{what} on {at}"))
}

fn tmpfs(at: &str) -> Result {
    mount(
        Some("lab"),
        at,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=755"),
    )
    .with_context(|| format!("a tmpfs on {at}"))
}

/// Covers `dir` with an overlay that keeps changes below `scratch`.
fn overlay(dir: &str, scratch: &Path) -> Result {
    let (upper, work) = (scratch.join("upper"), scratch.join("work"));
    for made in [&upper, &work] {
        fs::create_dir_all(made).with_context(|| format!("{}", made.display()))?;
    }
    let options = format!(
        "lowerdir={dir},upperdir={},workdir={}",
        upper.display(),
        work.display()
    );
    mount(
        Some("lab"),
        dir,
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_str()),
    )
    .with_context(|| format!("an overlay on {dir}"))
}

/// A sysfs that shows the node's links in `/sys/class/net`, with the host's cgroups kept for container runtimes. They take
/// the first mount of a hierarchy that they are told of, so there is no other, not even a hidden one.
fn sysfs() -> Result {
    fs::create_dir_all("/run/cgroup").context("/run/cgroup")?;
    bind("/sys/fs/cgroup", "/run/cgroup")?;
    umount2("/sys", MntFlags::MNT_DETACH).context("the host's /sys")?;
    mount(
        Some("lab"),
        "/sys",
        Some("sysfs"),
        MsFlags::empty(),
        None::<&str>,
    )
    .context("a sysfs on /sys")?;
    let (from, to) = (Some("/run/cgroup"), "/sys/fs/cgroup");
    mount(from, to, None::<&str>, MsFlags::MS_MOVE, None::<&str>).context("the cgroups on /sys")
}
