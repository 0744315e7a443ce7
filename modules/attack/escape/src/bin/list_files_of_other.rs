//! Lists the open files of another container's process.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(open(&format!("/proc/{}/fd", number(7)), DIRECTORY));
}
