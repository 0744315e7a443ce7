//! Makes a user namespace, where it is root.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("unshare", [0x10000000]));
}
