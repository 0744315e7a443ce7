//! Moves a file out of what was granted.
//!
//! Stopped by: sandbox.

use std::fs;

use attack_files::*;

fn main() {
    must_fail(fs::rename("/grant/own", "/grant/../canary/own"));
}
