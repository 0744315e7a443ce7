//! Reads the passwords of the host's users.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(read("/etc/shadow"));
}
