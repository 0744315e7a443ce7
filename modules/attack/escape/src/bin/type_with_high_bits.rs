//! Types into the terminal by a number that the kernel shortens.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("ioctl", [0, 0x1_0000_5412, text("x")]));
}
