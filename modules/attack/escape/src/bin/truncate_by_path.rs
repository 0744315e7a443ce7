//! Empties a file of the host by its path.
//!
//! Stopped by: seccomp; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(call("truncate", [text(&argument(1)), 0]));
}
