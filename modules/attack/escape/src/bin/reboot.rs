//! Restarts the machine; the numbers that mean it are left out.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("reboot", [0, 0, 0, 0]));
}
