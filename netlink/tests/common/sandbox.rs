//! Where the tests happen: each in a network namespace of its own, which has no name and goes with its thread. The
//! system's own tools are run there as judges.
use std::panic::resume_unwind;
use std::process::{Command, ExitCode};
use std::thread;

use libtest_mimic::{Arguments, Failed, Trial};
use netlink::netns::Netns;
use nix::sched::{CloneFlags, unshare};

/// A test: its name and what it does.
pub type Case = (&'static str, fn());

/// Runs the cases as `cargo test` expects it; where namespaces or programs are missing, says so and ignores them all.
pub fn main(cases: impl IntoIterator<Item = Case>, programs: &[&str]) -> ExitCode {
    let arguments = Arguments::from_args();
    let missing = missing(programs);
    let trials = cases.into_iter().map(|(name, body)| {
        let why = missing.clone();
        let run = move || match why {
            Some(why) => Err(Failed::from(why)),
            None => {
                in_new_netns(body);
                Ok(())
            }
        };
        Trial::test(name, run).with_ignored_flag(missing.is_some())
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    if let (Some(why), false) = (&missing, arguments.list) {
        println!("skipped: {why}");
    }
    conclusion.exit_code()
}

/// Why the tests cannot be run here, if so.
fn missing(programs: &[&str]) -> Option<String> {
    let made = thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET));
    if let Err(errno) = made.join().unwrap() {
        return Some(format!("no network namespace can be made: {errno}"));
    }
    let absent = |program: &&&str| command(program).arg("-V").output().is_err();
    let program = programs.iter().find(absent)?;
    Some(format!("there is no program {program}"))
}

/// Runs `body` on a thread in a network namespace made for it; the thread's panic is passed on.
pub fn in_new_netns<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        body()
    });
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// Another network namespace, which lives as long as what is returned.
pub fn another_netns() -> Netns {
    in_new_netns(|| Netns::current().unwrap())
}

#[allow(
    clippy::disallowed_methods,
    reason = "the judges are the system's own programs"
)]
fn command(program: &str) -> Command {
    Command::new(program)
}

/// What a program says, run in the calling thread's namespace; its complaint when it fails.
pub fn try_run(program: &str, words: &[&str]) -> Result<String, String> {
    let output = command(program).args(words).output().unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// What a program says; a panic when it fails.
#[track_caller]
pub fn run(program: &str, words: &[&str]) -> String {
    match try_run(program, words) {
        Ok(text) => text,
        Err(complaint) => panic!("{program} {}: {complaint}", words.join(" ")),
    }
}
