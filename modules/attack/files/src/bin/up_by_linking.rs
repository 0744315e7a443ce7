//! Links a file of the host into what was granted.
//!
//! Stopped by: sandbox.

use std::fs;

use attack_files::*;

fn main() {
    must_fail(fs::hard_link("/grant/../canary/secret", "/grant/secret"));
}
