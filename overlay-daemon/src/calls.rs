//! The calls of the plugins on this node, as they write them down themselves: a line each, in a file of the daemon's.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::config::Config;

/// How often the file is emptied.
const EMPTY: Duration = Duration::from_secs(5);
/// A plugin that has the file open still writes its line within this time.
const SETTLE: Duration = Duration::from_millis(200);
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
    loop {
        tokio::time::sleep(EMPTY).await;
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
                let mut lines = String::new();
                // What is no text is no call.
                let _ = full.read_to_string(&mut lines);
                lines.lines().for_each(|line| count(line, &calls));
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
        .open(file)?;
    Ok(())
}

/// Puts an empty file in its place by a rename, so that no call finds none, and returns the old one, which has no name any
/// more.
fn replace(file: &Path) -> io::Result<File> {
    let full = File::open(file)?;
    let fresh = file.with_extension("new");
    make(&fresh)?;
    fs::rename(&fresh, file)?;
    Ok(full)
}

/// Counts the call that a line tells of; what is no such line tells of none.
pub(crate) fn count(line: &str, calls: &Calls) {
    let mut words = line.split(' ');
    let (Some(plugin), Some(command), Some(result), Some(micros)) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return;
    };
    let Ok(micros) = micros.parse::<u32>() else {
        return;
    };
    let labels = Labels {
        plugin: plugin.to_owned(),
        command: command.to_owned(),
        result: result.to_owned(),
    };
    calls
        .get_or_create(&labels)
        .observe(f64::from(micros) / 1e6);
}
