//! Makes a file longer that was there before.
//!
//! Stopped by: quota.

use std::fs::File;
use std::io::Write;

use attack_files::*;

fn main() {
    let mut file = File::options().append(true).open("/grant/own").unwrap();
    until_full(|_| file.write_all(&[1; 3000]).map(|()| 3000));
}
