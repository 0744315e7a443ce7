//! Begins lists of a folder until it may not, and reads none.
//!
//! Stopped by: handles.

use std::fs;
use std::fs::File;

use attack_files::*;

fn main() {
    let mut open = Vec::new();
    must_fail((0..20_000).try_for_each(|_| {
        open.push((fs::read_dir("/grant")?, File::open("/grant/own")?));
        Ok::<(), std::io::Error>(())
    }));
}
