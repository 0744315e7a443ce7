//! Takes an open file of another process.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("pidfd_getfd", [0, 0, 0]));
}
