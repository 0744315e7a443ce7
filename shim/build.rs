//! Links the shim to a fixed address, where the C library is glibc: its tables of addresses are then the
//! file's own pages, which all pods share, and not a megabyte of each. `ARCHITECTURE.md` says what that
//! gives up.

#![allow(clippy::disallowed_methods, reason = "cargo says so in the environment")]

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let libc = std::env::var("CARGO_CFG_TARGET_ENV");
    if libc.is_ok_and(|libc| libc == "gnu") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
    // Cargo strips no package that has an optimisation level of its own.
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        println!("cargo::rustc-link-arg-bins=-Wl,--strip-all");
    }
}
