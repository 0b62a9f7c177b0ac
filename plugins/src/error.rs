//! How failures become CNI errors: the kernel's refusals, and the several of a call that went on.

use cni::{Code, Error, Result};

/// Turns a refusal of the kernel into a CNI error: code 11 where waiting helps, 999 otherwise.
pub fn kernel(error: netlink::Error) -> Error {
    let code = if error.is_busy() {
        Code::TryAgainLater
    } else {
        Code::Internal
    };
    Error::new(code, error.to_string())
}

/// A removal's outcome, where what was to be removed may be gone already.
///
/// # Errors
/// Any other refusal of the kernel.
pub fn unless_missing(outcome: netlink::Result<()>) -> Result<()> {
    match outcome {
        Err(error) if !error.is_not_found() => Err(kernel(error)),
        _ => Ok(()),
    }
}

/// What went wrong while a call went on regardless, as DEL and GC must.
#[derive(Debug, Default)]
pub struct Failures(Vec<Error>);

impl Failures {
    /// Keeps the error of a step, if it has one.
    pub fn note(&mut self, step: Result<()>) {
        self.0.extend(step.err());
    }

    /// The first error, the others in its details.
    ///
    /// # Errors
    /// When any step failed.
    pub fn into_result(self) -> Result<()> {
        let mut failures = self.0.into_iter();
        let Some(mut first) = failures.next() else {
            return Ok(());
        };
        for other in failures {
            let separator = if first.details.is_empty() { "" } else { "; " };
            first.details = format!("{}{separator}{other}", first.details);
        }
        Err(first)
    }
}
