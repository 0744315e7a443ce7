//! Reads a file of the host that nobody granted.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(read(&argument(1)));
}
