//! Makes another process.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(child(call("fork", [])));
}
