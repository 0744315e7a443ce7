//! Removes a file that is read-only.
//!
//! Stopped by: read-only.

use std::fs;

use attack_files::*;

fn main() {
    must_fail(fs::remove_file("/grant/own"));
}
