//! The calls of the plugins on this node, as they write them down themselves: a line each, in a file of the daemon's.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use cni::files;
use nix::fcntl::OFlag;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::config::Config;
use crate::ticks;

/// How often the file is emptied.
const EMPTY: Duration = Duration::from_secs(5);
/// A plugin that has the file open still writes its line within this time.
const SETTLE: Duration = Duration::from_millis(200);
/// What is read of it, in bytes: tens of thousands of calls.
const MOST: u64 = 1 << 20;
/// The calls that are counted, and what becomes of them.
const COMMANDS: [&str; 5] = ["ADD", "DEL", "CHECK", "GC", "STATUS"];
const RESULTS: [&str; 2] = ["ok", "error"];
/// Far more plugins than there are, with longer names.
const MOST_PLUGINS: usize = 64;
const LONGEST_NAME: usize = 32;
/// Upper bounds in seconds: a pod's ADD takes milliseconds, one that waits for a lock seconds.
const BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0];

/// Which calls are counted together.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Labels {
    plugin: String,
    command: String,
    result: String,
}

/// How many calls there were, and how long they took, in seconds.
pub type Calls = Family<Labels, Histogram, fn() -> Histogram>;

/// None so far.
pub fn none() -> Calls {
    Family::new_with_constructor(|| Histogram::new(BUCKETS))
}

/// Reads the file again and again, for ever. Where it cannot be had there are no such metrics, and nothing else is lost.
pub async fn run(config: &Config, calls: Calls) {
    let file = config.run_dir.join("cni-calls");
    if let Err(error) = make(&file) {
        tracing::warn!(
            "cannot make {}: {error}: calls of the plugins are not counted",
            file.display()
        );
        return std::future::pending().await;
    }
    let (mut counter, mut beat) = (Counter::new(calls), ticks::every(EMPTY));
    loop {
        beat.tick().await;
        let size = fs::metadata(&file).map(|meta| meta.len());
        if size.as_ref().is_ok_and(|size| *size == 0) {
            continue;
        }
        // Somebody has removed it.
        if size.is_err() && make(&file).is_ok() {
            continue;
        }
        match replace(&file) {
            Ok(mut full) => {
                tokio::time::sleep(SETTLE).await;
                let mut bytes = Vec::new();
                // As far as it can be read.
                let _ = full.by_ref().take(MOST).read_to_end(&mut bytes);
                let lines = String::from_utf8_lossy(&bytes);
                lines.lines().for_each(|line| counter.count(line));
            }
            Err(error) => tracing::warn!("cannot empty {}: {error}", file.display()),
        }
    }
}

fn make(file: &Path) -> io::Result<()> {
    File::options()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(file)?;
    Ok(())
}

/// Puts an empty file in its place by a rename, so that no call finds none, and returns the old one, which has no name any
/// more.
fn replace(file: &Path) -> io::Result<File> {
    let full = File::open(file)?;
    let fresh = file.with_extension("new");
    files::create(&fresh, 0o600)?;
    fs::rename(&fresh, file)?;
    Ok(full)
}

/// Counts calls, under as few names as there are plugins: each combination of labels is kept for ever.
#[derive(Debug)]
pub(crate) struct Counter {
    calls: Calls,
    plugins: BTreeSet<String>,
}

impl Counter {
    pub(crate) fn new(calls: Calls) -> Self {
        Self {
            calls,
            plugins: BTreeSet::new(),
        }
    }

    /// Counts the call that a line tells of; what is no such line tells of none.
    pub(crate) fn count(&mut self, line: &str) {
        let words: Vec<&str> = line.splitn(5, ' ').collect();
        let [plugin, command, result, micros] = words[..] else {
            return;
        };
        let Ok(micros) = micros.parse::<u32>() else {
            return;
        };
        if !COMMANDS.contains(&command) || !RESULTS.contains(&result) || !self.is_plugin(plugin) {
            return;
        }
        let labels = Labels {
            plugin: plugin.to_owned(),
            command: command.to_owned(),
            result: result.to_owned(),
        };
        let histogram = self.calls.get_or_create(&labels);
        histogram.observe(f64::from(micros) / 1e6);
    }

    /// Under how many names of plugins it has counted.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn names(&self) -> usize {
        self.plugins.len()
    }

    fn is_plugin(&mut self, name: &str) -> bool {
        if self.plugins.contains(name) {
            return true;
        }
        let is_name = name.bytes().all(|c| c.is_ascii_lowercase() || c == b'-');
        let is_new = is_name && name.len() <= LONGEST_NAME && self.plugins.len() < MOST_PLUGINS;
        is_new && self.plugins.insert(name.to_owned())
    }
}
