//! Goes up to the root by dots.
//!
//! Stopped by: sandbox.

use std::fs;

use attack_files::*;

fn main() {
    must_fail(fs::read(format!("/grant/{}{}", "../".repeat(40), secret())));
}
