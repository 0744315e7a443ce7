//! Makes a folder in one of the host.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(call("mkdirat", [HERE, text(&format!("{}.d", argument(1))), 0o755]));
}
