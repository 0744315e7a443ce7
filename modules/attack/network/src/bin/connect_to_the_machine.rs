//! Connects to a port of its own machine.
//!
//! Stopped by: policy.

use std::net::TcpStream;

use attack_files::*;

fn main() {
    must_fail(TcpStream::connect(("127.0.0.1", port())));
}
