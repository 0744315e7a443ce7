//! Writes far behind the end of a file.
//!
//! Stopped by: quota.

use std::fs::File;
use std::io::Write;
use std::io::{Seek, SeekFrom};

use attack_files::*;

fn main() {
    until_full(|number| {
        let mut file = File::create("/grant/a")?;
        file.seek(SeekFrom::Start((number + 1) * 50_000))?;
        file.write_all(b"x").map(|()| 50_000)
    });
}
