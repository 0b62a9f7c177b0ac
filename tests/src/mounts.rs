//! A node's private view of the files: what CNI and the runtimes write must never reach the host's directories.
use std::fs;
use std::path::Path;

use anyhow::Context;
use nix::mount::{MsFlags, mount};

use crate::Result;

/// Directories that may be written freely: the host's content shows through, changes stay in memory.
const COPIED: [&str; 3] = ["/etc", "/opt", "/var/lib"];

/// CNI's directories: each begins empty, whatever the host has there, and is a file system of its own, because an
/// overlay would cost an allocator more than any real disk does.
const CNI: [&str; 3] = ["/etc/cni", "/opt/cni", "/var/lib/cni"];

/// What is expected in them.
const EXPECTED: [&str; 3] = ["/etc/cni/net.d", "/opt/cni/bin", "/var/lib/cni/networks"];

/// Turns the calling thread's new mount namespace into a node's: private propagation, an empty `/run` with
/// `/run/netns`, a `/sys` of the node's own network namespace, overlays over `/etc`, `/opt` and `/var/lib`, empty
/// directories for CNI.
pub(crate) fn make_private() -> Result {
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .context("making all mounts private")?;
    // The overlays' upper layers live on a tmpfs which the final /run then hides.
    tmpfs("/run")?;
    for (i, dir) in COPIED.iter().enumerate() {
        overlay(dir, Path::new(&format!("/run/{i}")))?;
    }
    sysfs()?;
    tmpfs("/run")?;
    for dir in ["/run/netns", "/run/lock"] {
        fs::create_dir(dir).context(dir)?;
    }
    for dir in CNI {
        fs::create_dir_all(dir).context(dir)?;
        tmpfs(dir)?;
    }
    for dir in EXPECTED {
        fs::create_dir(dir).context(dir)?;
    }
    Ok(())
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

/// A sysfs that shows the node's links in `/sys/class/net`, with the host's cgroups kept for container runtimes.
fn sysfs() -> Result {
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    fs::create_dir("/run/cgroup").context("/run/cgroup")?;
    mount(
        Some("/sys/fs/cgroup"),
        "/run/cgroup",
        None::<&str>,
        bind,
        None::<&str>,
    )
    .context("keeping the cgroups")?;
    mount(
        Some("lab"),
        "/sys",
        Some("sysfs"),
        MsFlags::empty(),
        None::<&str>,
    )
    .context("a sysfs on /sys")?;
    mount(
        Some("/run/cgroup"),
        "/sys/fs/cgroup",
        None::<&str>,
        bind,
        None::<&str>,
    )
    .context("the cgroups on /sys")
}
