//! Follows a link that goes up.
//!
//! Stopped by: sandbox.

use std::fs;

use attack_files::*;

fn main() {
    must_fail(fs::read("/grant/beside/secret"));
}
