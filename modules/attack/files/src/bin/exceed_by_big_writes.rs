//! Writes more than it may in one call.
//!
//! Stopped by: quota.

use std::fs::File;
use std::io::Write;

use attack_files::*;

fn main() {
    let mut file = File::create("/grant/a").unwrap();
    let much = vec![1; 20 << 10];
    until_full(|_| file.write_all(&much).map(|()| much.len() as u64));
}
