//! Sets the machine's clock.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("clock_settime", [99, 0]));
}
