//! Removes the names of files that it keeps open.
//!
//! Stopped by: quota.

use std::fs;
use std::fs::File;
use std::io::Write;

use attack_files::*;

fn main() {
    let mut kept = Vec::new();
    until_full(|_| {
        let mut file = File::create("/grant/a")?;
        file.write_all(&[1; 6000])?;
        kept.push(file);
        fs::remove_file("/grant/a").map(|()| 6000)
    });
}
