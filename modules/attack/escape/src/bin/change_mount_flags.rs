//! Makes a read-only mount writable.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("mount_setattr", [HERE, text("/"), 0, at([0i64; 4]), 32]));
}
