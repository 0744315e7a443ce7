//! Writes more into a file than it may.
//!
//! Stopped by: quota.

use std::fs::File;
use std::io::Write;

use attack_files::*;

fn main() {
    let mut file = File::create("/grant/a").unwrap();
    until_full(|_| file.write_all(&[1; 1000]).map(|()| 1000));
}
