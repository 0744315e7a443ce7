//! Connects to where clouds keep credentials.
//!
//! Stopped by: policy.

use std::net::TcpStream;

use attack_files::*;

fn main() {
    must_fail(TcpStream::connect(("169.254.169.254", 80)));
}
