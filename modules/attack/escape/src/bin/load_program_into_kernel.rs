//! Loads a program into the kernel.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("bpf", [5, at([0i64; 16]), 128]));
}
