//! Attaches itself to another container's process.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("ptrace", [16, number(7), 0, 0]));
}
