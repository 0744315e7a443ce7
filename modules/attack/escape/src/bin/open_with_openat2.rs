//! Reads a file by the call that says how paths are resolved.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(call("openat2", [HERE, text(&argument(1)), at([READ, 0, 0]), 24]));
}
