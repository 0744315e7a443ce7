//! Reads the keys of the user.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("keyctl", [0, -4, 0]));
}
