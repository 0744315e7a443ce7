//! Connects to the address that stands for none.
//!
//! Stopped by: policy.

use std::net::TcpStream;

use attack_files::*;

fn main() {
    must_fail(TcpStream::connect(("0.0.0.0", port())));
}
