//! Attacks on what the daemon needs for itself, and for its other containers.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::harness::{Daemon, Host};

/// Opens a file again and again, tells when it may not any more, and keeps what it has.
const HOLDS_FILES: &str = r#"(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "f")
  (data (i32.const 16) "\20\00\00\00\05\00\00\00holds\n")
  (data (i32.const 32) "held\n")
  (func (export "_start")
    (loop $more
      (br_if $more (i32.eqz
        (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0)
          (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 256)))))
    (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 256)))
    (i64.store (i32.const 536) (i64.const 1000000000000))
    (loop $for_ever
      (drop (call $poll (i32.const 512) (i32.const 600) (i32.const 1) (i32.const 256)))
      (br $for_ever))))"#;

/// Five guests that open all that they may leave the daemon enough to answer, to stop them, and to start another
/// guest that opens a file.
#[test]
fn guests_that_hold_every_descriptor() {
    let host = Host::new();
    host.file("grant/f", "content");
    host.import("holds:1", HOLDS_FILES);
    host.import("quick:1", &crate::harness::printing("quick"));
    let daemon = Daemon::start(&host);
    // As on a device that allows few.
    daemon.bound_descriptors(1_500);
    let grant = format!("{}:/d:ro", host.path("grant").display());
    for number in 0..5 {
        let name = format!("holds{number}");
        daemon.docker(["run", "-d", "--name", &name, "-v", &grant, "holds:1"]).success();
        let mut logs = daemon.docker_command(["logs", "-f", &name]);
        let mut logs = logs.stdout(Stdio::piped()).spawn().expect("docker starts");
        let mut line = String::new();
        let output = logs.stdout.take().expect("a pipe");
        BufReader::new(output).read_line(&mut line).expect("it is told");
        assert_eq!(line, "held\n", "it is refused at last");
        logs.kill().expect("ended");
        logs.wait().expect("it is gone");
    }
    assert_eq!(daemon.docker(["ps", "-q"]).success().stdout.lines().count(), 5);
    let run = ["run", "--rm", "-v", &grant, "--tmpfs", "/t", "quick:1"];
    assert_eq!(daemon.docker(run).success().stdout, "quick\n");
    for number in 0..5 {
        daemon.docker(["rm", "-f", &format!("holds{number}")]).success();
    }
    assert_eq!(daemon.docker(["ps", "-aq"]).success().stdout, "");
}
