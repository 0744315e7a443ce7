//! Makes a folder its root, to leave it by an open one.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("chroot", [text("/")]));
}
