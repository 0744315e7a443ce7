//! Moves what it wrote elsewhere, and writes anew.
//!
//! Stopped by: quota.

use std::fs;

use attack_files::*;

fn main() {
    fs::create_dir("/grant/d").unwrap();
    until_full(|number| {
        fs::write("/grant/a", [1; 3000])?;
        fs::rename("/grant/a", format!("/grant/d/{number}")).map(|()| 3000)
    });
}
