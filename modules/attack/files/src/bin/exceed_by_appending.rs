//! Appends to a file, opened anew each time.
//!
//! Stopped by: quota.

use std::fs::File;
use std::io::Write;

use attack_files::*;

fn main() {
    until_full(|_| {
        let mut file = File::options().create(true).append(true).open("/grant/a")?;
        file.write_all(&[1; 5000]).map(|()| 5000)
    });
}
