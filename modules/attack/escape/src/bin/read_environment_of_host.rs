//! Reads the environment of the process that hosts it.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(read("/proc/self/environ"));
}
