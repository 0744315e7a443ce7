//! Reads what somebody types to its host.
//!
//! Stopped by: policy.

use std::io::Read;

use attack_files::*;

fn main() {
    let mut typed = String::new();
    std::io::stdin().read_to_string(&mut typed).unwrap();
    must_fail(if typed.is_empty() { Err(std::io::Error::other("nothing")) } else { Ok(()) });
}
