//! Opens a socket as mote's daemon listens on.
//!
//! Stopped by: seccomp; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(call("socket", [1, 1, 0]));
}
