//! Makes a process in a user namespace, where it is root.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(child(call("clone", [0x10000011, 0, 0, 0, 0])));
}
