//! Has its memory dumped for others.
//!
//! Stopped by: seccomp; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(call("prctl", [4, 1]));
}
