//! The first command that a stranger types.

use crate::harness::Host;

#[test]
fn the_demo_shows_five_workloads_and_leaves_nothing_behind() {
    let host = Host::new();
    let mut command = host.command(["demo"]);
    let out = crate::harness::run(command.env("TMPDIR", host.folder("tmp"))).success();
    for says in [
        "mean of 1000 smoothed readings",
        "no directory leads to",
        "ran out of fuel",
        "ran out of memory",
        "timed out",
        "5000000 instructions",
    ] {
        assert!(out.stdout.contains(says), "`{says}` is missing: {}", out.stdout);
    }
    assert_eq!(host.left("tmp"), Vec::<String>::new());
    assert_eq!(host.left("root"), Vec::<String>::new());
}
