//! Makes a link in a granted folder that leads out of it, and opens it.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    let link = format!("{}/out", argument(2));
    let _ = call("symlinkat", [text(&argument(1)), HERE, text(&link)]);
    report(read(&link));
}
