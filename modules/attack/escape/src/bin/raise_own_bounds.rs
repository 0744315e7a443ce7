//! Changes what it may use itself.
//!
//! Stopped by: seccomp; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(call("prlimit64", [0, 4, at([0i64, 0]), 0]));
}
