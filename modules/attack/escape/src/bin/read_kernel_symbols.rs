//! Learns where the kernel's code is.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(open("/proc/kallsyms", READ));
}
