//! Leaves its cgroup.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(open("/sys/fs/cgroup/memory/cgroup.procs", WRITE));
}
