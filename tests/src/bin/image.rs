//! `make image`: writes Heddle's container image as an OCI archive.

#![allow(clippy::print_stdout)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use lab::{Result, oci};

fn main() -> ExitCode {
    match image() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("image: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn image() -> Result {
    let file = std::env::args_os().nth(1).map(PathBuf::from);
    let file = file.context("say which file is to be written: image FILE")?;
    oci::heddle()?.write(&file, oci::HEDDLE)?;
    let size = std::fs::metadata(&file)?.len();
    println!("{}: {size} bytes, image {}", file.display(), oci::HEDDLE);
    Ok(())
}
