//! Gives a file of the host to somebody else.
//!
//! Stopped by: seccomp; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(call("fchownat", [HERE, text(&argument(1)), 1, 1, 0]));
}
