//! Watches all that is opened on the machine.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("fanotify_init", [0, 0]));
}
