//! Takes a part of the tree of mounts for itself.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("open_tree", [HERE, text("/"), 1]));
}
