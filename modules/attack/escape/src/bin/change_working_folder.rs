//! Goes to the host's root.
//!
//! Stopped by: seccomp; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(call("chdir", [text("/")]));
}
