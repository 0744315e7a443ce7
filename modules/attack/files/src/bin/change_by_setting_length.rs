//! Sets the length of a file that it may read.
//!
//! Stopped by: read-only.

use std::fs::File;

use attack_files::*;

fn main() {
    must_fail(File::open("/grant/own").and_then(|file| file.set_len(0)));
}
