//! Opens another process, to take its files.
//!
//! Stopped by: seccomp; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(call("pidfd_open", [number(7), 0]));
}
