//! Listens on a port that was not published.
//!
//! Stopped by: policy.

use std::net::TcpListener;

use attack_files::*;

fn main() {
    must_fail(TcpListener::bind(("127.0.0.1", 0)));
}
