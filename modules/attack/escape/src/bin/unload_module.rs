//! Takes a module from the kernel.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("delete_module", [text("none"), 0]));
}
