//! Connects to a port of its own machine by IPv6.
//!
//! Stopped by: policy.

use std::net::TcpStream;

use attack_files::*;

fn main() {
    must_fail(TcpStream::connect(("::1", port())));
}
