//! Changes what another process may use.
//!
//! Stopped by: seccomp; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(call("prlimit64", [number(7), 7, at([1024i64, 1024]), 0]));
}
