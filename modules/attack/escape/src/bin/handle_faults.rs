//! Handles faults of its memory, to hold the kernel up.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("userfaultfd", [1]));
}
