//! Opens the memory of another container's process as a file.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(open(&format!("/proc/{}/mem", number(7)), READ));
}
