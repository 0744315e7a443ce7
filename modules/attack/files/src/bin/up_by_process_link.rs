//! Follows a link into the kernel's view of this process.
//!
//! Stopped by: sandbox.

use std::fs;

use attack_files::*;

fn main() {
    must_fail(fs::read(format!("/grant/root{}", secret())));
}
