//! Reads what other containers wrote.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(open(&format!("{}/scratch", argument(3)), DIRECTORY));
}
