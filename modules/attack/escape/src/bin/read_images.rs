//! Reads the images of the machine.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(open(&format!("{}/images", argument(3)), DIRECTORY));
}
