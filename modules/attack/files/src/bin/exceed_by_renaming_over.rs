//! Replaces a file by others while it is open.
//!
//! Stopped by: quota.

use std::fs;
use std::fs::File;

use attack_files::*;

fn main() {
    let mut kept = Vec::new();
    until_full(|_| {
        fs::write("/grant/new", [1; 6000])?;
        kept.push(File::open("/grant/new")?);
        fs::rename("/grant/new", "/grant/a").map(|()| 6000)
    });
}
