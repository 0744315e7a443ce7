//! Moves a mount.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("move_mount", [HERE, text("/"), HERE, text("/"), 0]));
}
