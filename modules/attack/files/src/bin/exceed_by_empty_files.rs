//! Makes files that hold nothing: names take space, too.
//!
//! Stopped by: quota.

use std::fs;

use attack_files::*;

fn main() {
    until_full(|number| fs::write(format!("/grant/{number}"), "").map(|()| 1024));
}
