//! Begins lists of a folder of many long names until it may not, and reads one name of each.
//!
//! Stopped by: how many lists the host reads, and handles.

use std::fs;

use attack_files::*;

fn main() {
    for number in 0..1_000 {
        fs::create_dir(format!("/grant/{number:0>200}")).expect("made");
    }
    let mut open = Vec::new();
    let ended = (0..20_000).try_for_each(|_| {
        let mut list = fs::read_dir("/grant")?;
        list.next().expect("a name")?;
        open.push(list);
        Ok::<(), std::io::Error>(())
    });
    must_fail(ended);
}
