//! Makes a folder outside.
//!
//! Stopped by: sandbox.

use std::fs;

use attack_files::*;

fn main() {
    must_fail(fs::create_dir("/grant/../canary/d"));
}
