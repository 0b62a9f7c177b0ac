//! Heddle on a real Kubernetes: from `kubectl apply` to pods that talk, and back to a node as it was.
#![allow(clippy::print_stdout, reason = "the figures are what a reader wants")]

use std::process::ExitCode;

use lab::kubernetes::{Cluster, NEEDS};
use lab::{Case, Result};

fn main() -> ExitCode {
    lab::main([Case::new("registers", registers).needs(NEEDS)])
}

fn registers() -> Result {
    let start = std::time::Instant::now();
    let cluster = Cluster::start(&[("n1", 1, 11), ("n2", 1, 12), ("n3", 2, 13)])?;
    println!("registered after {:?}", start.elapsed());
    println!("{}", cluster.kubectl().run("get nodes -o wide")?);
    Ok(())
}
