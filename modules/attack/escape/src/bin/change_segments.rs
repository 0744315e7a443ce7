//! Changes how its memory is reached.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("modify_ldt", [99, 0, 0]));
}
