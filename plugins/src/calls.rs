//! What the daemon's metrics know of the plugins: a line for each call, where the daemon has made a file for it.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// Made by the daemon, which puts another in its place as well; without it nothing is measured.
const FILE: &str = "/run/heddle/cni-calls";

/// A call that is being answered, and that the daemon wants to know of.
#[derive(Debug)]
pub struct Clock {
    command: String,
    start: Instant,
}

impl Clock {
    /// Begins to measure; `None` where nobody wants to know, for the first look at the clock takes its time too.
    pub fn start() -> Option<Self> {
        let command = env::var("CNI_COMMAND").ok()?;
        // VERSION does nothing, and anything else is no call.
        let is_call = ["ADD", "DEL", "CHECK", "GC", "STATUS"].contains(&command.as_str());
        (is_call && Path::new(FILE).exists()).then(|| Self {
            command,
            start: Instant::now(),
        })
    }

    /// Writes down that `plugin` has answered, and how.
    pub fn stop(self, plugin: &str, is_success: bool) {
        write(plugin, &self.command, is_success, self.start.elapsed());
    }
}

/// A line is one write, shorter than a page, at the end of the file: those of calls at the same time do not mix. No metric is
/// worth a failed call, so nobody hears of it when it cannot be written.
fn write(plugin: &str, command: &str, is_success: bool, took: Duration) {
    let Ok(mut file) = OpenOptions::new().append(true).open(FILE) else {
        return;
    };
    let result = if is_success { "ok" } else { "error" };
    let _ =
        file.write_all(format!("{plugin} {command} {result} {}\n", took.as_micros()).as_bytes());
}
