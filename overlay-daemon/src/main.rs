//! `heddle`: the node daemon, and the operator's command line.

mod cli;

use std::process::ExitCode;

use clap::Parser;

// musl's own allocator takes a third of the time that a change among thousands of peers takes.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    cli::Cli::parse().run()
}
