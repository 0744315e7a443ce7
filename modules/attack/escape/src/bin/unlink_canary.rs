//! Removes a file of the host.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(call("unlinkat", [HERE, text(&argument(1)), 0]));
}
