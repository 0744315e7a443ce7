//! Connects by an IPv6 address that stands for an IPv4 one.
//!
//! Stopped by: policy.

use std::net::TcpStream;

use attack_files::*;

fn main() {
    must_fail(TcpStream::connect(("::ffff:127.0.0.1", port())));
}
