//! Adds a key to the user's.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("add_key", [text("user"), text("x"), text("y"), 1, -4]));
}
