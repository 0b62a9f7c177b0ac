//! Everything CNI may leave behind in a place, as lines that can be compared: what an ADD undone must restore.
mod files;
mod kernel;

use std::collections::BTreeSet;
use std::fmt;

use anyhow::bail;

use crate::{Result, Space};

/// Links, addresses, routes, rules, nftables, queueing disciplines and sysctls as `ip`, `nft`, `tc` and `/proc/sys`
/// show them, and the files below `/run`, `/etc/cni` and `/var/lib/cni`. Left out are neighbours, counters, carrier,
/// and what IPv6 does by itself (link-local addresses and their routes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    lines: BTreeSet<String>,
}

impl Snapshot {
    /// Takes the snapshot of a node or pod. Needs `ip` and `nft`.
    pub fn of(space: &Space) -> Result<Snapshot> {
        Snapshot::with_files(space, &["/run", "/etc/cni", "/var/lib/cni"])
    }

    /// The same with the files below other directories.
    pub fn with_files(space: &Space, roots: &[&str]) -> Result<Snapshot> {
        let mut lines = kernel::lines(space)?;
        lines.extend(space.run(|| files::lines(roots))?);
        Ok(Snapshot {
            lines: lines.into_iter().collect(),
        })
    }

    /// The same without the lines that contain one of these.
    pub fn without(mut self, parts: &[&str]) -> Snapshot {
        self.lines
            .retain(|line| !parts.iter().any(|part| line.contains(part)));
        self
    }

    /// The lines, sorted.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    /// Fails with the difference if anything changed from `before` to this.
    pub fn same_as(&self, before: &Snapshot) -> Result {
        let gone = before
            .lines
            .difference(&self.lines)
            .map(|line| format!("\n- {line}"));
        let new = self
            .lines
            .difference(&before.lines)
            .map(|line| format!("\n+ {line}"));
        let changes: String = gone.chain(new).collect();
        if !changes.is_empty() {
            bail!("the node is not as it was (- before, + now):{changes}");
        }
        Ok(())
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
