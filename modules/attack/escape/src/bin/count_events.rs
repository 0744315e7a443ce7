//! Counts events of the processor, to spy on others.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("perf_event_open", [at([0i64; 16]), 0, -1, -1, 0]));
}
