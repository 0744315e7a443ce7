//! Listens on a port of every address.
//!
//! Stopped by: policy.

use std::net::TcpListener;

use attack_files::*;

fn main() {
    must_fail(TcpListener::bind(("0.0.0.0", 8080)));
}
