//! Has the kernel keep account of all processes.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("acct", [0]));
}
