//! Follows a link with a slash behind it.
//!
//! Stopped by: sandbox.

use std::fs;

use attack_files::*;

fn main() {
    must_fail(fs::read_dir("/grant/up/"));
}
