//! Learns the number of a file.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("name_to_handle_at", [HERE, text("/etc"), at([0i64; 17]), at(0i64), 0]));
}
