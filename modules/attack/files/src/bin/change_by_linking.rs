//! Gives a file that is read-only another name.
//!
//! Stopped by: read-only.

use std::fs;

use attack_files::*;

fn main() {
    must_fail(fs::hard_link("/grant/own", "/grant/mine"));
}
