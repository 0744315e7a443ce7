//! Makes semaphores for all processes.
//!
//! Stopped by: seccomp; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(call("semget", [0, 1, 0o1777]));
}
