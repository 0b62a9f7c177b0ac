//! Running a plugin's executable, for a plugin that delegates and for a runtime alike.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Output, Stdio};
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::{AddResult, Attachment, Code, Command, Error, Result, Version, fold};

/// How long the first wait for an executable that is being written takes; each further one takes twice as long.
const BUSY_FIRST: Duration = Duration::from_millis(10);
/// How many waits there are: together about five seconds, as long as the reference waits.
const BUSY_WAITS: u32 = 9;

/// One call of another plugin.
#[derive(Debug)]
pub(crate) struct Invocation<'a> {
    pub(crate) plugin_type: &'a str,
    pub(crate) command: Command,
    pub(crate) attachment: &'a Attachment,
    pub(crate) netns: Option<&'a Path>,
    pub(crate) args: &'a str,
    pub(crate) path: &'a [PathBuf],
    pub(crate) conf: &'a Value,
}

/// The first regular file named `plugin_type` in the directories of `path`.
///
/// Code 7 if the name is empty, has a `/`, or nothing is found; code 4 if `path` is empty.
pub(crate) fn find(plugin_type: &str, path: &[PathBuf]) -> Result<PathBuf> {
    let invalid = |msg: String| Error::new(Code::InvalidConfig, msg);
    if plugin_type.is_empty() {
        return Err(invalid("no plugin name provided".into())
            .details("the key \"type\" of the plugin is missing or empty"));
    }
    if plugin_type.contains('/') {
        return Err(invalid(format!("invalid plugin name: {plugin_type}"))
            .details("give the name of a file in a directory of CNI_PATH, without a slash"));
    }
    if path.is_empty() {
        return Err(
            Error::new(Code::InvalidEnvironment, "no paths provided").details(format!(
                "set CNI_PATH to the directory that has {plugin_type:?}"
            )),
        );
    }
    path.iter()
        .map(|dir| dir.join(plugin_type))
        .find(|file| fs::metadata(file).is_ok_and(|m| m.is_file()))
        .ok_or_else(|| {
            let dirs: Vec<_> = path.iter().map(|dir| dir.to_string_lossy()).collect();
            invalid(format!(
                "failed to find plugin {plugin_type:?} in path [{}]",
                dirs.join(" ")
            ))
        })
}

impl Invocation<'_> {
    /// Runs ADD and reads the result; `version` is that of the configuration, which a result without one has too.
    pub(crate) fn add(&self, version: Version) -> Result<AddResult> {
        let stdout = self.run()?;
        let refuse = |why: String| {
            Error::new(
                Code::Decode,
                format!("plugin {:?} gave no usable result: {why}", self.plugin_type),
            )
        };
        if stdout.iter().all(u8::is_ascii_whitespace) {
            return Err(refuse("it printed nothing".into()));
        }
        let doc: Value = serde_json::from_slice(&stdout)
            .map_err(|e| refuse(format!("it printed {}: {e}", excerpt(&stdout))))?;
        AddResult::from_json(&doc, version).map_err(|e| refuse(e.to_string()))
    }

    /// Runs the plugin and returns what it printed. If it fails, the error is the one it printed, code and all.
    pub(crate) fn run(&self) -> Result<Vec<u8>> {
        let program = find(self.plugin_type, self.path)?;
        let Output {
            status,
            stdout,
            stderr,
        } = self.output(&program).map_err(|e| {
            Error::new(
                Code::Io,
                format!("cannot run plugin {}: {e}", program.display()),
            )
        })?;
        if status.success() {
            // It has succeeded, whatever becomes of its words.
            let _ = io::stderr().write_all(&stderr);
            return Ok(stdout);
        }
        if stdout.is_empty() {
            let why = if stderr.is_empty() {
                format!("netplugin failed with no error message: {status}")
            } else {
                format!("netplugin failed: {}", excerpt(&stderr))
            };
            return Err(Error::new(Code::Internal, why).details(program.to_string_lossy()));
        }
        Err(printed_error(&stdout).unwrap_or_else(|e| {
            let why = format!(
                "netplugin failed but error parsing its diagnostic message {}: {e}",
                excerpt(&stdout)
            );
            Error::new(Code::Internal, why).details(program.to_string_lossy())
        }))
    }

    fn output(&self, program: &Path) -> io::Result<Output> {
        let mut child = self.spawn(program)?;
        let conf = self.conf.to_string();
        let stdin = child.stdin.take();
        thread::scope(|scope| {
            // From a thread of its own: the plugin may fill its stdout before it has read all of its stdin.
            thread::Builder::new().spawn_scoped(scope, move || {
                // A plugin that does not read its configuration is free not to.
                let _ = stdin.map(|mut stdin| stdin.write_all(conf.as_bytes()));
            })?;
            child.wait_with_output()
        })
    }

    fn spawn(&self, program: &Path) -> io::Result<Child> {
        let path = env::join_paths(self.path).map_err(io::Error::other)?;
        #[allow(
            clippy::disallowed_methods,
            reason = "a delegate, the one program that a plugin may start"
        )]
        let mut process = Process::new(program);
        process
            .env("CNI_COMMAND", self.command.as_str())
            .env("CNI_CONTAINERID", &self.attachment.container_id)
            .env("CNI_NETNS", self.netns.unwrap_or(Path::new("")))
            .env("CNI_IFNAME", &self.attachment.ifname)
            .env("CNI_ARGS", self.args)
            .env("CNI_PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut wait = BUSY_FIRST;
        for _ in 0..BUSY_WAITS {
            match process.spawn() {
                Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy => thread::sleep(wait),
                other => return other,
            }
            wait *= 2;
        }
        process.spawn()
    }
}

/// The error document that a plugin printed.
fn printed_error(stdout: &[u8]) -> std::result::Result<Error, String> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Wire {
        code: u32,
        msg: String,
        details: String,
    }
    let doc: Value = serde_json::from_slice(stdout).map_err(|e| e.to_string())?;
    let wire: Wire = fold::read(&doc).map_err(|e| e.to_string())?;
    let code = match wire.code {
        0 => Code::Internal,
        code => Code::from(code),
    };
    Ok(Error::new(code, wire.msg).details(wire.details))
}

/// What was printed, in quotes, cut short.
fn excerpt(printed: &[u8]) -> String {
    let text = String::from_utf8_lossy(printed);
    let short: String = text.trim_end().chars().take(500).collect();
    format!("{short:?}")
}
