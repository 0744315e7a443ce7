//! Empties a file of the host as it opens it.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(open(&argument(1), WRITE | 0o1000));
}
