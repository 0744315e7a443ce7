//! Has itself run before all others.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("setpriority", [0, 0, -20]));
}
