//! Has itself run without giving way.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("sched_setscheduler", [0, 1, at([1i32])]));
}
