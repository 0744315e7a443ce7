//! Reads the memory of another container's process by its address.
//!
//! Stopped by: seccomp; the host's own filter too.

use attack_escape::*;

fn main() {
    let (local, remote) = (at([at([0u8; 8]), 8]), at([0x400000i64, 8]));
    report(call("process_vm_readv", [number(7), local, 1, remote, 1, 0]));
}
