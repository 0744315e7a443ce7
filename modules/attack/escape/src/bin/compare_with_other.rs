//! Compares its kernel objects with another process's.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("kcmp", [number(7), number(7), 0, 0, 0]));
}
