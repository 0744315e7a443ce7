//! Makes memory that all processes can attach.
//!
//! Stopped by: seccomp; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(call("shmget", [0, 4096, 0o1777]));
}
