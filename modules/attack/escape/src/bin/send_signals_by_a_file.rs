//! Has the kernel send a signal to another process when a pipe can be read.
//!
//! Stopped by: seccomp; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(call("fcntl", [0, 8, number(7)]));
}
