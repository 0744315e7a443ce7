//! Writes to a file of the host.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(open(&argument(1), WRITE));
}
