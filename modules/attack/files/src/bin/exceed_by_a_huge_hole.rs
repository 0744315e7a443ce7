//! Writes at the end of what a file can be.
//!
//! Stopped by: quota.

use std::fs::File;
use std::io::Write;
use std::io::{Seek, SeekFrom};

use attack_files::*;

fn main() {
    until_full(|_| {
        let mut file = File::create("/grant/a")?;
        file.seek(SeekFrom::Start(1 << 62))?;
        file.write_all(b"x").map(|()| 1 << 62)
    });
}
