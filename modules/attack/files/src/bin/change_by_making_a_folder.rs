//! Makes a folder where nothing may be made.
//!
//! Stopped by: read-only.

use std::fs;

use attack_files::*;

fn main() {
    must_fail(fs::create_dir("/grant/d"));
}
