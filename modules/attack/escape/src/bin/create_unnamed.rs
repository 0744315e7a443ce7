//! Makes a file without a name in a folder of the host.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(open("/tmp", READ_WRITE | 0o20200000));
}
