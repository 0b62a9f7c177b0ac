//! The image that the cluster's own pods and sandboxes run: busybox.
use std::path::Path;

use anyhow::Context;

use crate::{Result, find, oci};

/// Its name; nothing pulls it.
pub const BUSYBOX: &str = "localhost/busybox:lab";

/// What its shell knows.
const LINKS: [&str; 17] = [
    "cat",
    "date",
    "echo",
    "hostname",
    "httpd",
    "ip",
    "ls",
    "mkdir",
    "nc",
    "nslookup",
    "ping",
    "sh",
    "sleep",
    "test",
    "traceroute",
    "true",
    "wget",
];

/// Writes it to a file.
pub(super) fn busybox(file: &Path) -> Result {
    let program = find::program("busybox").context("busybox")?;
    oci::archive(file, BUSYBOX, &program, &LINKS)
}
