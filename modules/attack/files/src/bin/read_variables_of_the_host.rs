//! Reads the variables that its host has.
//!
//! Stopped by: policy.

use attack_files::*;

fn main() {
    must_fail(std::env::var("PATH").or(std::env::var("HOME")).map_err(std::io::Error::other));
}
