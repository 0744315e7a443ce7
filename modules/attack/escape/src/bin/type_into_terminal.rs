//! Types into the terminal that its host was started from.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("ioctl", [0, 0x5412, text("x")]));
}
