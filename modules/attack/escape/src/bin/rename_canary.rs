//! Renames a file of the host.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    let (from, to) = (text(&argument(1)), text(&format!("{}.gone", argument(1))));
    report(call("renameat2", [HERE, from, HERE, to, 0]));
}
