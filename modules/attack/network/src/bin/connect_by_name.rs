//! Connects to its own machine by name.
//!
//! Stopped by: policy.

use std::net::TcpStream;

use attack_files::*;

fn main() {
    must_fail(TcpStream::connect(("localhost", port())));
}
