//! How the shipped program lies on the disk: it starts for every call, and is read in pieces of 64 KB as it is needed.
#![allow(
    clippy::print_stdout,
    reason = "a build script speaks to cargo by stdout"
)]

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=order.ld");
    let is = |key: &str, value: &str| env::var(key).as_deref() == Ok(value);
    // Profile `dist-plugins`, and the C library whose parts the list names.
    if !is("OPT_LEVEL", "s") || !is("CARGO_CFG_TARGET_ENV", "musl") {
        return;
    }
    let list = env::current_dir().unwrap_or_default().join("order.ld");
    // What is called stands together; and two segments are less to map and to give back than four. Of what is relocated
    // before it is made read-only (RELRO) there is nothing in a program that is loaded where it was linked for.
    for argument in [
        format!("-T,{}", list.display()),
        "-z,noseparate-code".to_owned(),
        "-z,norelro".to_owned(),
    ] {
        println!("cargo::rustc-link-arg-bins=-Wl,{argument}");
    }
}
