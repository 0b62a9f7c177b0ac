//! The test runner: a case whose needs are not met is skipped with the reason, never passed.
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial, run};

use crate::{Need, Result};

/// A test: a name, what it needs, and what it does. It fails by an error or a panic.
#[derive(Clone, Debug)]
pub struct Case {
    name: &'static str,
    needs: Vec<Need>,
    body: fn() -> Result,
}

impl Case {
    /// A case with no needs but root.
    pub fn new(name: &'static str, body: fn() -> Result) -> Case {
        Case {
            name,
            needs: vec![Need::Root],
            body,
        }
    }

    /// Adds needs.
    pub fn needs(mut self, needs: impl IntoIterator<Item = Need>) -> Case {
        self.needs.extend(needs);
        self
    }
}

/// Runs the cases as `cargo test` expects it of a test binary, with its usual arguments. Skipped cases are reported as
/// `ignored`, with one line `skipped: <name>: <reason>` each at the end.
pub fn main(cases: impl IntoIterator<Item = Case>) -> ExitCode {
    run_cases(Arguments::from_args(), cases)
}

/// The same for cases that share what they work on: one after the other, in their order.
pub fn main_in_order(cases: impl IntoIterator<Item = Case>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    run_cases(arguments, cases)
}

fn run_cases(arguments: Arguments, cases: impl IntoIterator<Item = Case>) -> ExitCode {
    let mut skipped = Vec::new();
    let mut trials = Vec::new();
    for case in cases {
        let missing = case.needs.iter().find_map(|need| need.missing());
        if let Some(why) = &missing {
            skipped.push(format!("skipped: {}: {why}", case.name));
        }
        let ignored = missing.is_some();
        let body = move || match missing {
            Some(why) => Err(Failed::from(why)),
            None => (case.body)().map_err(|error| Failed::from(said(&error))),
        };
        trials.push(Trial::test(case.name, body).with_ignored_flag(ignored));
    }
    let conclusion = run(&arguments, trials);
    if !arguments.list {
        skipped.iter().for_each(|line| println!("{line}"));
    }
    conclusion.exit_code()
}

/// The error with its causes and, where backtraces are on, the lines of the test that led to it.
fn said(error: &anyhow::Error) -> String {
    let backtrace = error.backtrace().to_string();
    let places = backtrace
        .lines()
        .filter_map(|line| line.trim().strip_prefix("at ./tests/"));
    places.fold(format!("{error:#}"), |said, place| {
        format!("{said}\n  at tests/{place}")
    })
}
