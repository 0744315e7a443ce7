//! Turns the layout of its memory predictable.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("personality", [0x0040000]));
}
