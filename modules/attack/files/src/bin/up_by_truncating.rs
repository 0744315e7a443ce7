//! Empties a file of the host through a link.
//!
//! Stopped by: sandbox.

use std::fs::File;

use attack_files::*;

fn main() {
    must_fail(File::options().write(true).truncate(true).open("/grant/beside/secret"));
}
