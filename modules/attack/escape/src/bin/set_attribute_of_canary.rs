//! Sets an extended attribute of a file of the host.
//!
//! Stopped by: seccomp; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(call("setxattr", [text(&argument(1)), text("user.a"), text("b"), 1, 0]));
}
