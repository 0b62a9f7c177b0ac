//! `heddle report`: one archive with everything that a maintainer asks for, without secrets.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tar::{Builder, Header};

use crate::config::{Config, REDACTED};
use crate::conflist::Conflist;
use crate::events::Event;
use crate::status::Status;
use crate::{doctor, gc};

/// What other tools say, where they are there: a file each.
const TOOLS: [(&str, &str); 14] = [
    ("links", "ip -d -s link show"),
    ("addresses", "ip address show"),
    ("routes4", "ip route show table all"),
    ("routes6", "ip -6 route show table all"),
    ("rules", "ip rule show"),
    ("nexthops", "ip nexthop show"),
    ("neighbours", "ip neighbour show nud all"),
    ("fdb", "bridge fdb show"),
    ("nftables", "nft list ruleset"),
    ("iptables", "iptables-save"),
    ("conntrack", "conntrack -S"),
    ("sysctls", "sysctl -a -r ^net"),
    ("kernel", "uname -a"),
    ("log", "journalctl -u heddle -n 2000 --no-pager"),
];

/// Files that say what kind of host it is.
const FILES: [&str; 3] = ["/etc/os-release", "/proc/meminfo", "/proc/net/snmp"];

/// Writes `heddle-report-NODE-TIME.tar` into `directory`, with what the daemon says of itself, and returns its path. What cannot
/// be had is named in its file.
///
/// # Errors
/// When the archive cannot be written.
pub fn report(
    config: &Config,
    status: Result<Status, String>,
    events: Result<Vec<Event>, String>,
    directory: &Path,
) -> Result<PathBuf, String> {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = time.map_or(0, |time| time.as_secs());
    let name = format!("heddle-report-{}-{seconds}", config.node_name);
    let path = directory.join(format!("{name}.tar"));
    let said = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
    let mut private = File::options();
    private.write(true).create_new(true).mode(0o600);
    let file = private.open(&path).map_err(said)?;
    let mut archive = Archive {
        builder: Builder::new(file),
        name,
        seconds,
        secrets: config
            .keys
            .iter()
            .map(|key| key.reveal().to_owned())
            .collect(),
    };
    for (file, text) in own(config, status, events) {
        archive.add(&file, &text).map_err(said)?;
    }
    for (file, command) in TOOLS {
        archive
            .add(&format!("{file}.txt"), &run(command))
            .map_err(said)?;
    }
    for file in FILES {
        let text = std::fs::read_to_string(file).unwrap_or_else(|error| error.to_string());
        archive
            .add(file.rsplit('/').next().unwrap_or(file), &text)
            .map_err(said)?;
    }
    archive.builder.finish().map_err(said)?;
    Ok(path)
}

/// What Heddle itself knows.
fn own(
    config: &Config,
    status: Result<Status, String>,
    events: Result<Vec<Event>, String>,
) -> Vec<(String, String)> {
    let conflist = std::fs::read_to_string(Conflist::new(config).path());
    let files = [
        ("status.json", json(status.as_ref())),
        ("events.json", json(events.as_ref())),
        (
            "doctor.json",
            json(doctor::examine(config, status).as_ref()),
        ),
        ("leftovers.json", json(gc::gc(config, true).as_ref())),
        (
            "config.toml",
            toml::to_string(config).unwrap_or_else(|error| error.to_string()),
        ),
        (
            "conflist.json",
            conflist.unwrap_or_else(|error| error.to_string()),
        ),
        ("conf-dir.txt", listing(&config.cni_conf_dir)),
    ];
    files.map(|(name, text)| (name.to_owned(), text)).into()
}

fn json(value: Result<&impl Serialize, &String>) -> String {
    match value.map(serde_json::to_string_pretty) {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => error.to_string(),
        Err(why) => why.clone(),
    }
}

fn listing(directory: &Path) -> String {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.path().display().to_string()))
        .collect();
    names.sort();
    names.join("\n")
}

/// What a tool says, or why it says nothing.
#[allow(clippy::disallowed_methods, reason = "no pod waits for a report")]
fn run(command: &str) -> String {
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    match Command::new(program).args(words).output() {
        Ok(output) => {
            let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
            text += &String::from_utf8_lossy(&output.stderr);
            text
        }
        Err(error) => format!("cannot run {program}: {error}"),
    }
}

struct Archive {
    builder: Builder<File>,
    name: String,
    seconds: u64,
    secrets: Vec<String>,
}

impl Archive {
    /// Adds a file, in which no secret of the configuration stands, whoever wrote it there.
    fn add(&mut self, file: &str, text: &str) -> std::io::Result<()> {
        let redacted = self.secrets.iter().fold(text.to_owned(), |text, secret| {
            text.replace(secret, REDACTED)
        });
        let mut header = Header::new_gnu();
        header.set_size(redacted.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.seconds);
        header.set_cksum();
        let path = format!("{}/{file}", self.name);
        self.builder
            .append_data(&mut header, path, redacted.as_bytes())
    }
}
