//! Looks a name up, which tells its server something.
//!
//! Stopped by: policy.

use std::net::ToSocketAddrs;

use attack_files::*;

fn main() {
    must_fail(("secret.example.com", 80).to_socket_addrs());
}
