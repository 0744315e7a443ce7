//! Gives a file more names.
//!
//! Stopped by: quota.

use std::fs;

use attack_files::*;

fn main() {
    fs::write("/grant/a", "x").unwrap();
    until_full(|number| fs::hard_link("/grant/a", format!("/grant/{number}")).map(|()| 1024));
}
