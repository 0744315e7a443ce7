//! Reads the environment of the machine's first process.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(read("/proc/1/environ"));
}
