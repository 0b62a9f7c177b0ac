//! `make bench`: our plugins, the reference's and the kernel's own floor, side by side in one run.

#![allow(clippy::print_stdout)]

mod chain;
mod floor;
mod leases;
mod parallel;
mod peers;
mod pod;
mod side;
mod start;
mod throughput;
mod times;

use std::process::ExitCode;

use lab::{Need, Result};

use crate::side::Side;

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result {
    let sides = match Need::Reference("bridge").missing() {
        None => vec![Side::Heddle, Side::Reference],
        Some(why) => {
            println!("skipped: the reference's rows: {why}\n");
            vec![Side::Heddle]
        }
    };
    println!("{}", pod::table(&sides)?);
    println!("{}", leases::table(&sides)?);
    println!("{}", parallel::table(&sides)?);
    println!("{}", chain::table(&sides)?);
    println!("{}", chain::ports_table(&sides)?);
    println!("{}", start::table(&sides)?);
    println!("{}", peers::table()?);
    println!("{}", throughput::table()?);
    Ok(())
}
