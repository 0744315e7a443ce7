//! Sends a signal to a thread of another container's process.
//!
//! Stopped by: seccomp; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(call("tgkill", [number(7), number(7), 0]));
}
