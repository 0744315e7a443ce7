//! Unmounts a file system of the host.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("umount2", [text("/nowhere"), 2]));
}
