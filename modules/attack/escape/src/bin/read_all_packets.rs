//! Opens a socket that hears every packet.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("socket", [17, 3, 0x300]));
}
