//! Opens a socket to the kernel, to change routes.
//!
//! Stopped by: seccomp; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(call("socket", [16, 3, 0]));
}
