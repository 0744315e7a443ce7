//! Has the host read ahead in a file, through more streams than it may have.
//!
//! Stopped by: handles.

use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{DescriptorFlags, OpenFlags, PathFlags};

fn main() {
    std::fs::write("/grant/large", vec![b'x'; 256 << 10]).expect("written");
    let directories = get_directories();
    let (grant, _) = directories.iter().find(|(_, name)| name == "/grant").expect("granted");
    let file = grant
        .open_at(PathFlags::empty(), "large", OpenFlags::empty(), DescriptorFlags::READ)
        .expect("opened");
    std::fs::remove_file("/grant/large").expect("removed");
    let mut kept = Vec::new();
    for _ in 0..20_000 {
        let stream = file.read_via_stream(0).expect("a stream");
        // The host begins, and the guest never fetches it.
        let _ = stream.read(64 << 10);
        kept.push(stream);
    }
    println!("got through");
}
