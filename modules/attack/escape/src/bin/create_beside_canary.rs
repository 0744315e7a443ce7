//! Makes a file in a folder of the host.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(open(&format!("{}.new", argument(1)), WRITE | CREATE));
}
