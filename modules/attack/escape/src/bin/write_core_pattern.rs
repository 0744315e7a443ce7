//! Names a program that the kernel is to run when something crashes.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(open("/proc/sys/kernel/core_pattern", WRITE));
}
