//! Makes a pipe with a name in a granted folder, for whoever opens it.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("mknodat", [HERE, text(&format!("{}/pipe", argument(2))), 0o010666, 0]));
}
