//! Pins memory, so that others run out of it.
//!
//! Stopped by: seccomp; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(call("mlock", [at([0u8; 64]), 64]));
}
