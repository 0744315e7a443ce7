//! Opens its own process's memory as a file.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(open("/proc/self/mem", READ_WRITE));
}
