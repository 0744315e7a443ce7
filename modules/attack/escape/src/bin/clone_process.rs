//! Makes another process by the call that makes threads.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(child(call("clone", [17, 0, 0, 0, 0])));
}
