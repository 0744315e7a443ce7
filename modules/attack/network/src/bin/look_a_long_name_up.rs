//! Looks a name up that is as long as it likes.
//!
//! Stopped by: policy.

use std::net::ToSocketAddrs;

use attack_files::*;

fn main() {
    must_fail(("x.".repeat(500_000).as_str(), 80).to_socket_addrs());
}
