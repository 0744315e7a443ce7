//! Exchanges the root.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("pivot_root", [text("/"), text("/")]));
}
