//! Watches what others do to the files of the host.
//!
//! Stopped by: seccomp; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    let watch = call("inotify_init1", [0]);
    report(watch.and_then(|watch| call("inotify_add_watch", [watch, text("/etc"), 0xfff])));
}
