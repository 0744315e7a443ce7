//! Makes a file longer without writing to it.
//!
//! Stopped by: quota.

use std::fs::File;

use attack_files::*;

fn main() {
    let file = File::create("/grant/a").unwrap();
    until_full(|number| file.set_len((number + 1) * 7000).map(|()| 7000));
}
