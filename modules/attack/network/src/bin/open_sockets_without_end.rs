//! Opens sockets until it may not.
//!
//! Stopped by: handles.

use std::net::UdpSocket;

use attack_files::*;

fn main() {
    let mut open = Vec::new();
    must_fail((0..20_000).try_for_each(|_| {
        open.push(UdpSocket::bind(("0.0.0.0", 0))?);
        Ok::<(), std::io::Error>(())
    }));
}
