//! Makes memory that it can write and run.
//!
//! Stopped by: seccomp; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(call("mmap", [0, 4096, 7, 0x22, -1, 0]));
}
