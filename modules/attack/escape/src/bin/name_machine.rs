//! Gives the machine another name.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    report(call("sethostname", [text("x"), -1]));
}
