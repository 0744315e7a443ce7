//! Writes to one file through two handles.
//!
//! Stopped by: quota.

use std::fs::File;
use std::io::Write;

use attack_files::*;

fn main() {
    let mut one = File::create("/grant/a").unwrap();
    let mut two = File::options().append(true).open("/grant/a").unwrap();
    until_full(|number| {
        if number % 2 == 0 { one.write_all(&[1; 4000]) } else { two.write_all(&[2; 4000]) }
            .map(|()| 2000)
    });
}
