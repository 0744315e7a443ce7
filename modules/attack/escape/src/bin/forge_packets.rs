//! Opens a socket that sends what it likes.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("socket", [2, 3, 255]));
}
