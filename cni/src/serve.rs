//! The plugin side: from environment and stdin to one JSON document.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Value, json};

use crate::{AddResult, Call, Code, Command, Env, Error, Result, Version, conf, door};

/// One plugin: what it does for each command, given a call that has passed every check of the protocol.
pub trait Plugin {
    /// Printed when someone runs the plugin by hand, without `CNI_COMMAND`.
    fn about(&self) -> &'static str;
    /// The versions that the plugin speaks.
    fn versions(&self) -> &'static [Version] {
        Version::ALL
    }
    /// ADD. If it fails, nothing may be left behind.
    fn add(&self, call: &Call) -> Result<AddResult>;
    /// DEL: never fails because something is missing.
    fn del(&self, call: &Call) -> Result<()>;
    /// CHECK: `call.conf.prev_result` is the result of the whole chain's ADD, if the runtime has it.
    fn check(&self, call: &Call) -> Result<()>;
    /// GC: called only when `call.conf.valid_attachments` is there.
    fn gc(&self, call: &Call) -> Result<()>;
    /// STATUS: changes nothing.
    fn status(&self, call: &Call) -> Result<()>;
}

/// What a call comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// One JSON document; empty only after a success that has nothing to say (DEL, CHECK, GC, STATUS).
    pub stdout: Vec<u8>,
    /// For people.
    pub stderr: String,
    /// Whether the process exits with 0.
    pub success: bool,
}

/// Answers the call that this process was started for: the whole `main` of a plugin.
pub fn run(plugin: &dyn Plugin) -> ExitCode {
    #[cfg(panic = "abort")]
    std::panic::set_hook(Box::new(|info| {
        let error = Error::new(Code::Internal, format!("internal error: {info}"));
        let _ = write_out(&pretty(&error.to_json(Version::LATEST)));
    }));

    let env = Env::of_process();
    // Room for most configurations, or the standard library reads them in small pieces.
    let mut stdin = Vec::with_capacity(4096);
    let reply = match read_stdin(&env, &mut stdin) {
        Ok(()) => serve(plugin, &env, &stdin),
        Err(e) => Reply::error(
            &Error::new(Code::Io, format!("error reading from stdin: {e}")),
            Version::LATEST,
        ),
    };
    if let Err(why) = write_out(&reply.stdout) {
        // A runtime that has not seen the result of an ADD knows nothing of the attachment.
        if reply.success && matches!(env.command(), Some(Ok(Command::Add))) {
            let undo = Env {
                command: Some(Command::Del.as_str().into()),
                ..env
            };
            serve(plugin, &undo, &stdin);
        }
        let _ = writeln!(io::stderr(), "cannot write the result to stdout: {why}");
        return ExitCode::FAILURE;
    }
    match io::stderr().write_all(reply.stderr.as_bytes()) {
        Ok(()) if reply.success => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Writes one document to stdout, past the buffer of the standard library: that writes by the line, and what it
/// still holds at the end of the process it writes without looking whether that worked.
fn write_out(document: &[u8]) -> io::Result<()> {
    File::from(io::stdout().as_fd().try_clone_to_owned()?).write_all(document)
}

/// A person at a terminal who asks for the version, or for nothing, is not made to wait for a configuration.
fn read_stdin(env: &Env, stdin: &mut Vec<u8>) -> io::Result<()> {
    let wanted = match env.command() {
        None => false,
        Some(Ok(Command::Version)) => !io::stdin().is_terminal(),
        Some(_) => true,
    };
    if wanted {
        io::stdin().read_to_end(stdin)?;
    }
    Ok(())
}

/// Answers one call, given its environment and its stdin: [`run`] without the process around it.
pub fn serve(plugin: &dyn Plugin, env: &Env, stdin: &[u8]) -> Reply {
    let doc = conf::decode(stdin);
    let version = doc.as_ref().map(conf::version).ok().flatten();
    let outcome = match env.command() {
        None => return about(plugin),
        Some(Ok(Command::Version)) => return supported(plugin, version),
        Some(command) => command
            .and_then(|command| door::enter(command, env, doc, plugin.versions()))
            .and_then(|call| guarded(plugin, &call)),
    };
    match outcome {
        Ok(doc) => Reply {
            stdout: doc.map(|doc| pretty(&doc)).unwrap_or_default(),
            success: true,
            ..Reply::default()
        },
        Err(e) => Reply::error(&e, version.unwrap_or(Version::LATEST)),
    }
}

/// Carries out the call; a panic becomes an error.
fn guarded(plugin: &dyn Plugin, call: &Call) -> Result<Option<Value>> {
    catch_unwind(AssertUnwindSafe(|| dispatch(plugin, call))).unwrap_or_else(|cause| {
        let cause = cause
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| cause.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(Error::new(
            Code::Internal,
            format!("internal error: panicked: {cause}"),
        ))
    })
}

fn dispatch(plugin: &dyn Plugin, call: &Call) -> Result<Option<Value>> {
    match call.command {
        Command::Add => {
            // What cannot be said in the caller's version has failed, and a failed ADD leaves nothing behind.
            let doc = plugin.add(call)?.to_json(call.conf.version);
            return match doc.map_err(|e| (e, plugin.del(call))) {
                Ok(doc) => Ok(Some(doc)),
                Err((e, Ok(()))) => Err(e),
                Err((e, Err(undo))) => Err(e.details(format!("and undoing it failed: {undo}"))),
            };
        }
        Command::Del => plugin.del(call)?,
        Command::Check => plugin.check(call)?,
        Command::Gc if call.conf.valid_attachments.is_none() => {}
        Command::Gc => plugin.gc(call)?,
        Command::Status => plugin.status(call)?,
        Command::Version => {}
    }
    Ok(None)
}

/// The answer to VERSION, on one line as the reference gives it: the caller's version back (specification), the newest
/// if it gave none.
fn supported(plugin: &dyn Plugin, version: Option<Version>) -> Reply {
    let versions: Vec<_> = plugin.versions().iter().map(|v| v.as_str()).collect();
    let doc = json!({
        "cniVersion": version.unwrap_or(Version::LATEST).as_str(),
        "supportedVersions": versions,
    });
    Reply {
        stdout: format!("{doc}\n").into_bytes(),
        success: true,
        ..Reply::default()
    }
}

/// The answer when there is no command: some words for the person who tried, and no failure (reference: `skel`).
fn about(plugin: &dyn Plugin) -> Reply {
    let versions: Vec<_> = plugin.versions().iter().map(|v| v.as_str()).collect();
    Reply {
        stderr: format!(
            "{}\nCNI protocol versions supported: {}\n",
            plugin.about(),
            versions.join(", ")
        ),
        success: true,
        ..Reply::default()
    }
}

impl Reply {
    fn error(error: &Error, version: Version) -> Self {
        Reply {
            stdout: pretty(&error.to_json(version)),
            ..Reply::default()
        }
    }
}

/// The document indented as the reference does it.
pub fn pretty(doc: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let mut serializer =
        Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(b"    "));
    // Cannot fail: every key is a string and a Vec takes everything.
    let _ = doc.serialize(&mut serializer);
    out
}

#[cfg(test)]
mod tests;
