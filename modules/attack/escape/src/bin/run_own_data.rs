//! Makes its data code.
//!
//! Stopped by: seccomp; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    let page = call("mmap", [0, 4096, 3, 0x22, -1, 0]);
    report(page.and_then(|page| call("mprotect", [page, 4096, 5])));
}
