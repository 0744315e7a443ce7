//! Containers of one terminal, seen and driven from another.

use crate::harness::{Host, guest};
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

/// Starts a container in a terminal of its own.
fn terminal(host: &Host, args: &[&str]) -> Child {
    let mut command = host.command([&["run"], args].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("mote starts")
}

/// Waits until the guest has said something, which tells that it runs.
fn says_something(child: &mut Child) {
    let mut line = String::new();
    let stdout = child.stdout.as_mut().expect("a pipe");
    BufReader::new(stdout).read_line(&mut line).expect("it runs");
}

/// A module that says so, and then computes for ever.
const BUSY: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\05\00\00\00")
  (data (i32.const 16) "busy\n")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (loop (br 0))))"#;

fn stats(host: &Host, name: &str) -> serde_json::Value {
    let text = host.cli(["stats", "--format", "json", name]).success().stdout;
    serde_json::from_str::<serde_json::Value>(&text).expect("JSON")[0].clone()
}

#[test]
fn a_container_is_listed_while_it_runs_and_not_after() {
    let host = Host::new();
    assert_eq!(host.cli(["ps", "-q"]).success().stdout, "");
    let busy = host.file("busy.wat", BUSY);
    let mut child = terminal(&host, &["--name", "web", &busy, "an", "argument"]);
    says_something(&mut child);
    let listed = host.cli(["ps", "--format", "{{.Names}} {{.Image}} {{.State}} {{.Command}}"]);
    assert_eq!(listed.success().stdout, "web busy.wat running busy.wat an argument\n");
    let id = host.cli(["ps", "-q"]).success().stdout.trim().to_owned();
    assert_eq!(host.cli(["stop", &id[..5]]).success().stdout, format!("{}\n", &id[..5]));
    let ended = child.wait_with_output().expect("ended");
    assert_eq!(ended.status.code(), Some(143));
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "web was stopped\n");
    assert_eq!(host.cli(["ps", "-q"]).success().stdout, "");
    host.cli(["stop", "web"]).fails(1, &["no running container is called web", "mote ps"]);
    assert_eq!(host.left("state/live"), Vec::<String>::new());
}

#[test]
fn a_paused_container_uses_no_cpu_and_goes_on() {
    let host = Host::new();
    let busy = host.file("busy.wat", BUSY);
    let mut child = terminal(&host, &["--name", "web", &busy]);
    says_something(&mut child);
    host.cli(["unpause", "web"]).fails(1, &["cannot be unpaused"]);
    host.cli(["pause", "web"]).success();
    assert!(host.cli(["ps"]).success().stdout.contains("(Paused)"));
    let before = stats(&host, "web")["CpuNanos"].clone();
    assert_eq!(stats(&host, "web")["CpuNanos"], before, "nothing is computed");
    host.cli(["unpause", "web"]).success();
    while stats(&host, "web")["CpuNanos"] == before {}
    host.cli(["pause", "web"]).success();
    host.cli(["kill", "-a"]).success();
    assert_eq!(child.wait().expect("ended").code(), Some(137));
}

#[test]
fn limits_are_changed_while_a_container_runs() {
    let host = Host::new();
    // Says so when its memory has grown beyond what it started with.
    let wat = BUSY.replace(
        "(loop (br 0))",
        r#"(loop (br_if 0 (i32.eq (memory.grow (i32.const 100)) (i32.const -1))))"#,
    );
    let grow = host.file("grow.wat", wat);
    let mut child = terminal(&host, &["--name", "web", "-m", "1m", &grow]);
    says_something(&mut child);
    host.cli(["update", "web"]).fails(125, &["--memory"]);
    host.cli(["update", "--memory", "1000000g", "web"]).fails(1, &["above this host's ceiling"]);
    host.cli(["update", "--cpus", "0.5", "--memory", "16m", "web"]).success();
    assert_eq!(child.wait().expect("ended").code(), Some(0), "it got what it waited for");
}

#[test]
fn a_guest_that_waits_is_stopped_and_one_that_was_killed_leaves_nothing_in_the_list() {
    let host = Host::new();
    for name in ["sleep.p1", "sleep.p2"] {
        let mut child = terminal(&host, &["--name", "web", &guest(name), "100000"]);
        says_something(&mut child);
        host.cli(["stop", "web"]).success();
        assert_eq!(child.wait().expect("ended").code(), Some(143), "{name}");
    }
    let mut child = terminal(&host, &["--name", "web", &guest("sleep.p1"), "100000"]);
    says_something(&mut child);
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert_eq!(host.cli(["ps", "-q"]).success().stdout, "");
    assert_eq!(host.left("state/live"), Vec::<String>::new());
}

/// Waits until a container is listed, since it says nothing by which to know that it runs.
fn listed(host: &Host, name: &str) {
    while !host.cli(["ps", "--format", "{{.Names}} {{.State}}"]).stdout.contains(name) {}
}

/// Waits until a pipe takes no more.
fn full(pipe: impl std::os::fd::AsFd) {
    let waiting = || rustix::io::ioctl_fionread(&pipe).expect("a pipe");
    while waiting() < 65_000 {}
}

#[test]
fn a_guest_that_is_held_up_is_stopped_all_the_same() {
    // In a write to a pipe that nobody reads, and in opening one that nobody writes to.
    let host = Host::new();
    for stream in ["1", "2"] {
        let flood = host.file("flood.wat", BUSY.replace("(loop (br 0))", &format!("(loop (drop (call $write (i32.const {stream}) (i32.const 0) (i32.const 1) (i32.const 8))) (br 0))")));
        let mut child = terminal(&host, &["--name", "flood", &flood]);
        match stream {
            "1" => full(child.stdout.as_ref().expect("a pipe")),
            _ => full(child.stderr.as_ref().expect("a pipe")),
        }
        host.cli(["kill", "flood"]).success();
        assert_eq!(child.wait().expect("ended").code(), Some(137));
    }

    let folder = host.folder("data");
    crate::harness::tool("mkfifo", [format!("{folder}/pipe")]);
    for name in ["read.p1", "read.p2"] {
        let volume = format!("{folder}:/d");
        let args = ["--name", "reader", "--tmpfs", "/t", "-v", &volume, &guest(name), "/d/pipe"];
        let mut child = terminal(&host, &args);
        listed(&host, "reader");
        host.cli(["stop", "-t", "5", "reader"]).success();
        assert_eq!(child.wait().expect("ended").code(), Some(143), "{name}");
        assert_eq!(host.left("root/scratch"), Vec::<String>::new(), "{name}");
        assert_eq!(host.left("state/live"), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn a_client_that_says_nothing_stands_in_nobodys_way() {
    use std::os::unix::fs::MetadataExt;
    let host = Host::new();
    let busy = host.file("busy.wat", BUSY);
    let mut child = terminal(&host, &["--name", "web", "-e", "SECRET=hunter2", &busy]);
    says_something(&mut child);
    let files = host.left("state/live");
    let socket = files.iter().find(|name| name.ends_with(".sock")).expect("a socket");
    let record = files.iter().find(|name| name.ends_with(".json")).expect("a record");
    assert_eq!(std::fs::metadata(record).expect("a record").mode() & 0o777, 0o600);
    assert!(!std::fs::read_to_string(record).expect("a record").contains("hunter2"));
    let silent: Vec<_> = (0..5)
        .map(|_| std::os::unix::net::UnixStream::connect(socket).expect("connected"))
        .collect();
    host.cli(["kill", "-s", "TERM", "web"]).success();
    assert_eq!(child.wait().expect("ended").code(), Some(143));
    drop(silent);
    host.cli(["kill", "-s", "USR1", "web"]).fails(125, &["no signal USR1"]);
}

#[test]
fn what_ran_out_of_memory_is_told_by_the_limit_that_held() {
    let host = Host::new();
    // Grows when it is given more than it started with, then by more than it has, and dies of that.
    let wat = BUSY.replace(
        "(loop (br 0))",
        r#"(loop (br_if 0 (i32.eq (memory.grow (i32.const 20)) (i32.const -1))))
           (if (i32.eq (memory.grow (i32.const 1000)) (i32.const -1)) (then unreachable))"#,
    );
    let grow = host.file("grow.wat", wat);
    let mut child = terminal(&host, &["--name", "web", "-m", "1m", &grow]);
    says_something(&mut child);
    host.cli(["update", "-m", "4m", "web"]).success();
    let ended = child.wait_with_output().expect("ended");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("ran out of memory (limit 4MiB)"), "{said}");
}
