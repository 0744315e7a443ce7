//! Makes a device file for the machine's memory.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("mknodat", [HERE, text(&format!("{}/mem", argument(2))), 0o020666, 0x101]));
}
