//! Opens the folder of compiled programs, to put one of its own there.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(open(&format!("{}/compiled", argument(3)), DIRECTORY));
}
