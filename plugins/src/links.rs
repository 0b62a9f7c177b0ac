//! Many links deleted at once. For each message the kernel waits until nobody looks at the link any more, which takes ten
//! milliseconds and more; waits that go on at the same time are one (`rcu_barrier`).

use std::panic::resume_unwind;
use std::thread;

use cni::Result;
use netlink::{Handle, Link, link};

use crate::error::{Failures, kernel, unless_missing};

/// How many are waited for at a time.
const AT_ONCE: usize = 16;

/// Deletes links of the calling thread's namespace; one that is gone is no error.
///
/// # Errors
/// What the kernel said, after all have been tried.
pub fn delete<'a>(links: impl Iterator<Item = &'a Link>) -> Result<()> {
    let indices: Vec<u32> = links.map(|link| link.index).collect();
    let mut shares = indices.chunks(indices.len().div_ceil(AT_ONCE).max(1));
    // One link, as most often, needs no other thread.
    let Some(own) = shares.next() else {
        return Ok(());
    };
    let mut failures = Failures::default();
    thread::scope(|scope| {
        let workers: Vec<_> = shares
            .map(|share| scope.spawn(|| one_by_one(share)))
            .collect();
        failures.note(one_by_one(own));
        for worker in workers {
            failures.note(worker.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
    });
    failures.into_result()
}

fn one_by_one(indices: &[u32]) -> Result<()> {
    let mut host = Handle::new().map_err(kernel)?;
    let mut failures = Failures::default();
    for index in indices {
        failures.note(unless_missing(host.execute(vec![link::delete(*index)])));
    }
    failures.into_result()
}
