//! The undo list of one ADD: each step that changed something pushes how to take it back.

use std::fmt;

use cni::{Error, Result};

type Step<'a> = Box<dyn FnOnce() -> Result<()> + 'a>;

/// Steps to run backwards should the call fail; dropped unused when it succeeds.
#[derive(Default)]
pub struct Undo<'a> {
    steps: Vec<(&'static str, Step<'a>)>,
}

impl<'a> Undo<'a> {
    /// Adds how to take back what was just done; `what` names it for the report.
    pub fn push(&mut self, what: &'static str, step: impl FnOnce() -> Result<()> + 'a) {
        self.steps.push((what, Box::new(step)));
    }

    /// Takes everything back, last step first, never stopping at a failure, and returns `cause`
    /// with whatever could not be taken back in its details.
    pub fn run(self, mut cause: Error) -> Error {
        for (what, step) in self.steps.into_iter().rev() {
            if let Err(error) = step() {
                let left = format!("could not undo {what}: {error}");
                cause.details = match cause.details.is_empty() {
                    true => left,
                    false => format!("{}; {left}", cause.details),
                };
            }
        }
        cause
    }
}

impl fmt::Debug for Undo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.steps.iter().map(|(what, _)| what))
            .finish()
    }
}
