//! What the kernel lacks, found by trying in a network namespace that goes with the attempt.

use super::{Finding, Patient};
use crate::install::kernel;

const CHECK: &str = "kernel";

pub(super) fn findings(_: &mut Patient) -> Vec<Finding> {
    let Some(lacking) = kernel::lacking() else {
        return vec![Finding::note(
            CHECK,
            "was not tried, which needs root with its capabilities",
        )];
    };
    if lacking.is_empty() {
        return vec![Finding::good(CHECK, "has all that is needed, by trying")];
    }
    let each = lacking.into_iter().map(|(what, modules)| {
        Finding::bad(
            CHECK,
            format!("has no {what}"),
            format!("modprobe -a {modules}, or choose a kernel that has it"),
        )
    });
    each.collect()
}
