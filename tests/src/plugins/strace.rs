//! System calls of a plugin: counted, or made to fail one at a time, with `strace`.
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;

use crate::Result;

/// One system call that goes wrong: the `nth` one (from 1) of this name in the plugin's life.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The system call, such as `sendto`.
    pub syscall: String,
    /// What becomes of it.
    pub effect: Effect,
    /// Which of the calls it is.
    pub nth: usize,
}

/// How a system call goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum Effect {
    /// It does nothing and gives this error, such as `ENOBUFS`.
    Fails(&'static str),
    /// The process is killed with SIGKILL as it enters the call.
    Kills,
}

/// What may fail of what a plugin asks the kernel for.
const FALLIBLE: [&str; 24] = [
    "bind",
    "connect",
    "flock",
    "getdents64",
    "ioctl",
    "link",
    "linkat",
    "mkdir",
    "open",
    "openat",
    "read",
    "readlink",
    "recvfrom",
    "rename",
    "sendmsg",
    "sendto",
    "setsockopt",
    "socket",
    "statx",
    "symlink",
    "unlink",
    "utimensat",
    "write",
    "newfstatat",
];

/// The system calls that a plugin made, one line each as strace writes it.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    lines: Vec<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault {
            syscall,
            effect,
            nth,
        } = self;
        match effect {
            Effect::Fails(errno) => write!(f, "{syscall} number {nth} fails with {errno}"),
            Effect::Kills => write!(f, "killed at {syscall} number {nth}"),
        }
    }
}

impl Trace {
    /// Each of these calls failing in its turn, with its error, as often as it was made.
    pub fn faults(&self, kinds: &[(&str, &'static str)]) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (syscall, errno) in kinds {
            // Every second setns is the way back: one that fails aborts the process, which is as good as a kill and not the
            // matter here.
            let step = if *syscall == "setns" { 2 } else { 1 };
            faults.extend((1..=self.count(&[syscall])).step_by(step).map(|nth| Fault {
                syscall: (*syscall).to_owned(),
                effect: Effect::Fails(errno),
                nth,
            }));
        }
        faults
    }

    /// Each netlink message, its answer and each operation on a file failing in its turn, each time with the next of these
    /// errors, or with all of them. With `changes_only`, only what changes something, and the answer to it.
    pub fn failures(
        &self,
        errors: &[&'static str],
        all_errors: bool,
        changes_only: bool,
    ) -> Vec<Fault> {
        let mut seen = BTreeMap::new();
        let mut failures: Vec<Fault> = Vec::new();
        let mut changed = false;
        for line in &self.lines {
            let Some(name) = name(line) else { continue };
            let nth = seen.entry(name).or_insert(0);
            *nth += 1;
            let is_answer = name == "recvfrom" && changed;
            changed = changes(name, line);
            if !FALLIBLE.contains(&name) || (changes_only && !changed && !is_answer) {
                continue;
            }
            let turn = failures.len() % errors.len();
            let which = if all_errors {
                errors
            } else {
                &errors[turn..=turn]
            };
            // The kernel says these in an answer, never of the call itself.
            let of_answers = |errno: &str| ["EEXIST", "EBUSY"].contains(&errno);
            let is_socket = ["sendto", "sendmsg", "recvfrom"].contains(&name);
            let errno = |errno: &&'static str| match is_socket && of_answers(errno) {
                true => "ENOBUFS",
                false => *errno,
            };
            failures.extend(which.iter().map(errno).map(|errno| Fault {
                syscall: name.to_owned(),
                effect: Effect::Fails(errno),
                nth: *nth,
            }));
        }
        failures
    }

    /// A kill at each of the calls in its turn, the first excepted: that is the start of the program itself. With
    /// `changes_only`, only at those before which something has changed since the kill before, and at the last.
    pub fn kills(&self, changes_only: bool) -> Vec<Fault> {
        let mut seen = BTreeMap::new();
        let mut kills = Vec::new();
        let mut changed = false;
        let calls: Vec<_> = self
            .lines
            .iter()
            .filter(|line| name(line).is_some())
            .collect();
        for (at, line) in calls.iter().enumerate() {
            let Some(name) = name(line) else { continue };
            let nth = seen.entry(name).or_insert(0);
            *nth += 1;
            if at > 0 && (!changes_only || changed || at + 1 == calls.len()) {
                kills.push(Fault {
                    syscall: name.to_owned(),
                    effect: Effect::Kills,
                    nth: *nth,
                });
            }
            changed = changes(name, line);
        }
        kills
    }

    /// Reads and removes a log of strace.
    pub(super) fn take(log: &str) -> Result<Trace> {
        let text =
            fs::read_to_string(log).with_context(|| format!("{log}: is strace installed?"))?;
        fs::remove_file(log)?;
        let calls = text.lines().filter(|line| !line.contains(" resumed>"));
        Ok(Trace {
            lines: calls.map(str::to_owned).collect(),
        })
    }

    /// All lines: process id, name, arguments, result.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// How often one of these was called.
    pub fn count(&self, names: &[&str]) -> usize {
        self.names().filter(|name| names.contains(name)).count()
    }

    /// How many programs were started, the plugin itself not counted.
    pub fn programs(&self) -> usize {
        self.count(&["execve", "execveat"]).saturating_sub(1)
    }

    /// How many processes and threads were started.
    pub fn forks(&self) -> usize {
        self.count(&["clone", "clone3", "fork", "vfork"])
    }

    /// How many messages were sent on sockets.
    pub fn sends(&self) -> usize {
        self.count(&["sendto", "sendmsg", "sendmmsg"])
    }

    /// How many netlink messages were sent; a batch holds several of them.
    pub fn netlink_messages(&self) -> usize {
        let is_send = |line: &&String| matches!(name(line), Some("sendto" | "sendmsg"));
        let sends = self.lines.iter().filter(is_send);
        sends.map(|line| line.matches("{nlmsg_len=").count()).sum()
    }

    /// The name of each call, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter_map(|line| name(line))
    }
}

/// The system call of a line, behind the process id.
fn name(line: &str) -> Option<&str> {
    let call = line
        .trim_start_matches(|c: char| c.is_ascii_digit())
        .trim_start();
    call.split_once('(').map(|(name, _)| name)
}

/// Whether a call may have changed something that outlives the process, as far as its line tells.
fn changes(name: &str, line: &str) -> bool {
    match name {
        "linkat" | "link" | "symlink" | "symlinkat" | "unlink" | "unlinkat" | "rename"
        | "renameat" | "renameat2" | "mkdir" | "mkdirat" | "utimensat" | "ftruncate" | "write"
        | "ioctl" => true,
        "open" | "openat" => line.contains("O_CREAT") || line.contains("O_TRUNC"),
        "sendto" | "sendmsg" => {
            let reads = ["RTM_GET", "NFT_MSG_GET", "IPCTNL_MSG_CT_GET"];
            !reads.iter().any(|read| line.contains(read)) && line.contains("nlmsg_type=")
        }
        _ => false,
    }
}

/// A name for a log, on the node's own `/run`.
pub(super) fn log_file() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("/run/lab-strace.{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The arguments of strace before the program.
pub(super) fn arguments(log: &str, fault: Option<&Fault>) -> Vec<String> {
    let injected = fault.map(|fault| {
        let Fault {
            syscall,
            effect,
            nth,
        } = fault;
        let effect = match effect {
            Effect::Fails(errno) => format!("error={errno}"),
            Effect::Kills => "signal=SIGKILL".to_owned(),
        };
        format!("{syscall}:{effect}:when={nth}")
    });
    with(log, injected)
}

/// The same for a program that stops behind each of these system calls.
pub(super) fn stopping(log: &str, syscall: &str) -> Vec<String> {
    with(log, Some(format!("{syscall}:signal=SIGSTOP")))
}

fn with(log: &str, injected: Option<String>) -> Vec<String> {
    let mut arguments: Vec<String> = ["-f", "-qq", "-s", "256", "-o", log]
        .map(str::to_owned)
        .into();
    arguments.extend(
        injected
            .into_iter()
            .flat_map(|injected| ["-e".to_owned(), format!("inject={injected}")]),
    );
    arguments
}
