//! What a guest can try with the words of its own standard library.
//!
//! Each attack is one program. It says `held` if it was stopped, and `got through` if not. Its arguments are a
//! file of the host (as the host names it), and the number of a port that listens there.

use std::io;

/// The folder that was granted, and how much may be written there.
pub const GRANT: &str = "/grant";
pub const LIMIT: u64 = 64 << 10;

/// The host's own name of a file that was not granted.
pub fn secret() -> String {
    std::env::args().nth(1).expect("a path")
}

/// A port of the host that somebody listens on.
pub fn port() -> u16 {
    std::env::args().nth(6).expect("a port").parse().expect("a number")
}

/// Prints whether something that must not work did.
pub fn must_fail<T>(tried: io::Result<T>) {
    match tried {
        Ok(_) => println!("got through"),
        Err(_) => println!("held"),
    }
}

/// Does something that takes space again and again, until it is refused. Ten times the limit is too much. WASI
/// 0.2 tells of a stream only that it failed.
pub fn until_full(mut take: impl FnMut(u64) -> io::Result<u64>) {
    const FAILED: i32 = 29;
    let (mut taken, mut number) = (0, 0);
    while taken <= 10 * LIMIT {
        match take(number) {
            Ok(bytes) => taken += bytes,
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return println!("held"),
            Err(error) if error.raw_os_error() == Some(FAILED) => return println!("held"),
            Err(error) => return println!("stopped by something else: {error}"),
        }
        number += 1;
    }
    println!("got through");
}
