//! Goes up by dots.
//!
//! Stopped by: sandbox.

use std::fs;

use attack_files::*;

fn main() {
    must_fail(fs::read(format!("/grant/../canary/secret")));
}
