//! Becomes root.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("setresuid", [0, 0, 0]));
}
