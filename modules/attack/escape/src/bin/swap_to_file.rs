//! Has the kernel swap to a file.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("swapon", [text("/nowhere"), 0]));
}
