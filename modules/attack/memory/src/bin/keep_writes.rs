//! Writes to a file through more streams than it may have, and waits for none.
//!
//! Stopped by: handles.

use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{DescriptorFlags, OpenFlags, PathFlags};

fn main() {
    let directories = get_directories();
    let (grant, _) = directories.iter().find(|(_, name)| name == "/grant").expect("granted");
    let file = grant
        .open_at(PathFlags::empty(), "large", OpenFlags::CREATE, DescriptorFlags::WRITE)
        .expect("opened");
    std::fs::remove_file("/grant/large").expect("removed");
    let chunk = vec![b'x'; 64 << 10];
    let mut kept = Vec::new();
    for _ in 0..20_000 {
        let stream = file.write_via_stream(0).expect("a stream");
        if let Ok(room @ 1..) = stream.check_write() {
            stream.write(&chunk[..chunk.len().min(room as usize)]).expect("there is room");
        }
        kept.push(stream);
    }
    println!("got through");
}
