//! Opens a file system to mount it.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("fsopen", [text("tmpfs"), 0]));
}
