//! Opens what the kernel has said, and takes it from others.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(open("/proc/kmsg", READ));
}
