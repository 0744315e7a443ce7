//! Hangs up the terminal.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("vhangup", []));
}
