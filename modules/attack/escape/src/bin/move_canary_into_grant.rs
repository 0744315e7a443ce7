//! Moves a file of the host into a folder that was granted.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    let (from, to) = (text(&argument(1)), text(&format!("{}/moved", argument(2))));
    report(call("renameat2", [HERE, from, HERE, to, 0]));
}
