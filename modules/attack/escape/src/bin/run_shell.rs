//! Starts a shell.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("execve", [text("/bin/sh"), at([text("sh"), 0]), at([0i64])]));
}
