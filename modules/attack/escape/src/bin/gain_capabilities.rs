//! Gains capabilities.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("capset", [at([0x20080522i32, 0]), at([-1i32; 6])]));
}
