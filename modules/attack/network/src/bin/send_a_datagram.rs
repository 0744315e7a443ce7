//! Sends a datagram.
//!
//! Stopped by: policy.

use std::net::UdpSocket;

use attack_files::*;

fn main() {
    must_fail(
        UdpSocket::bind(("0.0.0.0", 0))
            .and_then(|socket| socket.send_to(b"x", ("127.0.0.1", port()))),
    );
}
