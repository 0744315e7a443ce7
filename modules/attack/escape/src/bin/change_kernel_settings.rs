//! Changes a setting of the kernel.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(open("/proc/sys/vm/drop_caches", WRITE));
}
