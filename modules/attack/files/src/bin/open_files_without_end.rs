//! Opens files until it may not.
//!
//! Stopped by: handles.

use std::fs::File;

use attack_files::*;

fn main() {
    let mut open = Vec::new();
    must_fail((0..20_000).try_for_each(|_| {
        open.push(File::open("/grant/own")?);
        Ok::<(), std::io::Error>(())
    }));
}
