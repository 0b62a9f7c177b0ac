//! Whether this node carries pod traffic, for those who act on it: Kubernetes' condition, and the plugin's STATUS.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cni::files;
use serde_json::json;

use crate::config::Config;
use crate::membership::Membership;
use crate::reconciler::Report;

/// What the kernel refuses for less than this is put right before anyone has to act on it.
const BROKEN_AFTER: Duration = Duration::from_secs(3);

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Nothing is known yet: what was said before holds.
    #[default]
    Unknown,
    /// New pods have to wait, and why.
    Waiting(String),
    /// It does.
    Carries,
    /// Pods that run are hurt, and why.
    Broken(String),
}

/// Forms the answer from what the tasks say, as time goes by.
#[derive(Debug, Default)]
pub struct Judge {
    broken_since: Option<Instant>,
    last: Health,
}

impl Judge {
    /// The answer at the moment.
    pub fn judge(
        &mut self,
        membership: &Membership,
        report: &Report,
        conflist: &Result<String, String>,
    ) -> Health {
        let trouble = report.problems.first();
        let since = trouble.map(|_| self.broken_since.unwrap_or_else(Instant::now));
        self.broken_since = since;
        let has_lasted = since.is_some_and(|since| since.elapsed() >= BROKEN_AFTER);
        self.last = match (trouble, conflist) {
            _ if !membership.is_known || report.passes == 0 => Health::Unknown,
            (Some(why), Ok(_)) if has_lasted => Health::Broken(why.clone()),
            // It may be over in a moment.
            (Some(_), Ok(_)) => self.last.clone(),
            (_, Err(why)) => Health::Waiting(why.clone()),
            (None, Ok(_)) => Health::Carries,
        };
        self.last.clone()
    }
}

/// Where the plugin reads the answer: a file below `/run`, so that a reboot takes it away, and no restart of the daemon does.
#[derive(Debug)]
pub struct StatusFile(PathBuf);

impl StatusFile {
    /// Its place.
    pub fn new(config: &Config) -> Self {
        Self(config.run_dir.join("cni-status"))
    }

    /// Its path.
    pub fn path(&self) -> &PathBuf {
        &self.0
    }

    /// Writes the answer as the CNI specification has it for STATUS (its section 3): code 50 where no pod can be added, 51
    /// where existing ones are hurt, an empty object where all is well.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, health: &Health) -> Result<(), String> {
        let answer = match health {
            Health::Unknown => return Ok(()),
            Health::Carries => json!({}),
            Health::Waiting(why) => json!({"code": 50, "msg": why}),
            Health::Broken(why) => json!({"code": 51, "msg": why}),
        };
        let temporary = self.0.with_extension("new");
        // Runtimes of other users may ask for it.
        files::create(&temporary, 0o644)
            .and_then(|mut file| file.write_all(answer.to_string().as_bytes()))
            .and_then(|()| fs::rename(&temporary, &self.0))
            .map_err(|error| format!("cannot write {}: {error}", self.0.display()))
    }
}
