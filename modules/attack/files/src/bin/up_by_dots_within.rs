//! Goes down, and up further than down.
//!
//! Stopped by: sandbox.

use std::fs;

use attack_files::*;

fn main() {
    let _ = fs::create_dir("/grant/d");
    must_fail(fs::read("/grant/d/../../canary/secret"));
}
