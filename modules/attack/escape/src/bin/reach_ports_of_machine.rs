//! Speaks to devices past the kernel.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("iopl", [3]));
}
