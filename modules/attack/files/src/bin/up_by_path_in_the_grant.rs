//! Names a file as the host does, below what was granted.
//!
//! Stopped by: sandbox.

use std::fs;

use attack_files::*;

fn main() {
    must_fail(fs::read(format!("/grant/{}", secret())));
}
