//! Reads the state of other containers.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(open(&argument(4), DIRECTORY));
}
