//! Reads the key that seals compiled programs.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(open(&format!("{}/compiled/host.key", argument(3)), READ));
}
