//! Links a file of the host by a link of the host's.
//!
//! Stopped by: sandbox.

use std::fs;

use attack_files::*;

fn main() {
    must_fail(fs::hard_link("/grant/beside/secret", "/grant/secret"));
}
