//! Lists the host's root.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(open("/", DIRECTORY));
}
