//! Removes a file of the host.
//!
//! Stopped by: sandbox.

use std::fs;

use attack_files::*;

fn main() {
    must_fail(fs::remove_file("/grant/../canary/secret"));
}
