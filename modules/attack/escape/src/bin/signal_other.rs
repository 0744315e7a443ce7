//! Sends a signal to another container's process.
//!
//! Stopped by: seccomp; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(call("kill", [number(7), 0]));
}
