//! Copies a file.
//!
//! Stopped by: quota.

use std::fs;

use attack_files::*;

fn main() {
    fs::write("/grant/a", [1; 9000]).unwrap();
    until_full(|number| fs::copy("/grant/a", format!("/grant/{number}")));
}
