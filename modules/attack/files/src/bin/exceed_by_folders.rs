//! Makes folders.
//!
//! Stopped by: quota.

use std::fs;

use attack_files::*;

fn main() {
    until_full(|number| fs::create_dir(format!("/grant/{number}")).map(|()| 1024));
}
