//! Makes a file in memory.
//!
//! Stopped by: seccomp; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(call("memfd_create", [text("x"), 0]));
}
