//! Empties a file that is read-only.
//!
//! Stopped by: read-only.

use std::fs::File;

use attack_files::*;

fn main() {
    must_fail(File::options().write(true).truncate(true).open("/grant/own"));
}
