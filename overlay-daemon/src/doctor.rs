//! `heddle doctor`: everything on this node that is known to keep pods from reaching each other, one line each, with the
//! remedy as a command.

mod conflists;
mod daemon;
mod drops;
mod forwarding;
mod host;
mod kernel;
mod leases;
mod managers;
mod paths;
mod pods;
mod services;
mod sysctls;

use netlink::sysctl::Tree;
use netlink::{Handle, nft};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::local::Local;
use crate::status::Status;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It may matter one day, or could not be looked at.
    Note,
    /// Pods are hurt, or will be.
    Bad,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// A sentence that names the object.
    pub text: String,
    /// What to do about it, as a command where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The sysctl that mends it and does no harm.
    #[serde(skip)]
    pub fix: Option<Setting>,
}

/// A sysctl with the value that it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its path below `/proc/sys`.
    pub key: String,
    /// The value.
    pub value: &'static str,
}

impl Finding {
    fn new(check: &'static str, verdict: Verdict, text: impl Into<String>) -> Self {
        Self {
            check,
            verdict,
            text: text.into(),
            remedy: None,
            fix: None,
        }
    }

    fn good(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, Verdict::Good, text)
    }

    fn note(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, Verdict::Note, text)
    }

    fn bad(check: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..Self::new(check, Verdict::Bad, text)
        }
    }

    fn with_remedy(self, remedy: impl Into<String>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..self
        }
    }

    /// A sysctl that is not as it should be.
    fn setting(check: &'static str, text: String, key: &str, value: &'static str) -> Self {
        let key = key.to_owned();
        Self {
            remedy: Some(format!("sysctl -w {}={value}", dotted(&key))),
            fix: Some(Setting { key, value }),
            ..Self::new(check, Verdict::Bad, text)
        }
    }
}

/// As sysctl(8) writes a key: dots, and slashes for the dots within an interface's name.
fn dotted(key: &str) -> String {
    key.chars()
        .map(|c| match c {
            '/' => '.',
            '.' => '/',
            other => other,
        })
        .collect()
}

/// What the checks look at.
struct Patient<'a> {
    config: &'a Config,
    status: Result<Status, String>,
    route: Handle,
    nft: nft::Handle,
    local: Result<Local, String>,
}

impl Patient<'_> {
    fn sysctl(&self, key: &str) -> Option<String> {
        Tree::new(&self.config.sysctl_dir).get(key).ok()
    }
}

/// Makes every check, with what the daemon says of itself.
///
/// # Errors
/// When the kernel gives no netlink socket.
pub fn examine(config: &Config, status: Result<Status, String>) -> Result<Vec<Finding>, String> {
    let said = |error: netlink::Error| error.to_string();
    let mut route = Handle::new().map_err(said)?;
    let local = Local::find(&mut route, config);
    let mut patient = Patient {
        config,
        status,
        route,
        nft: nft::Handle::new().map_err(said)?,
        local,
    };
    // Causes before what follows from them: what comes first is to be mended first.
    let checks: [fn(&mut Patient) -> Vec<Finding>; 12] = [
        kernel::findings,
        host::findings,
        sysctls::findings,
        forwarding::findings,
        conflists::findings,
        pods::findings,
        leases::findings,
        managers::findings,
        drops::findings,
        daemon::findings,
        services::findings,
        paths::findings,
    ];
    Ok(checks
        .into_iter()
        .flat_map(|check| check(&mut patient))
        .collect())
}

/// Sets the sysctls that findings ask for. Returns a line for each.
///
/// # Errors
/// The first that cannot be set.
pub fn fix(config: &Config, findings: &[Finding]) -> Result<Vec<String>, String> {
    let tree = Tree::new(&config.sysctl_dir);
    let wanted = findings.iter().filter_map(|finding| finding.fix.as_ref());
    wanted
        .map(|setting| {
            let Setting { key, value } = setting;
            tree.set(key, value).map_err(|error| error.to_string())?;
            Ok(format!("set {} = {value}", dotted(key)))
        })
        .collect()
}
