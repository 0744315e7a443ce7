//! Writes many files.
//!
//! Stopped by: quota.

use std::fs;

use attack_files::*;

fn main() {
    until_full(|number| fs::write(format!("/grant/{number}"), [1; 3000]).map(|()| 3000));
}
