//! Makes a file in a folder that is read-only.
//!
//! Stopped by: read-only.

use std::fs::File;

use attack_files::*;

fn main() {
    must_fail(File::create("/grant/a"));
}
