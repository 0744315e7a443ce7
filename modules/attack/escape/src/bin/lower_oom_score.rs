//! Has the kernel end others first when memory runs out.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    report(open("/proc/self/oom_score_adj", WRITE));
}
