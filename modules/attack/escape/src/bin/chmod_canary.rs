//! Changes the permissions of a file of the host.
//!
//! Stopped by: seccomp; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(call("fchmodat", [HERE, text(&argument(1)), 0o777]));
}
