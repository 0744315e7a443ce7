//! What the daemon's benchmarks share: a daemon of their own, and the least of a client.

#![allow(dead_code, reason = "each benchmark uses a part")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

#[path = "../../harness/api.rs"]
mod api;
#[path = "../guests/mod.rs"]
pub mod guests;

pub use api::Client;

/// Computes for ever.
pub const SPIN: &str =
    r#"(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))"#;

/// Asks for page after page of memory for ever, and prints a byte for each that it gets.
pub const GROW: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\01\00\00\00")
  (data (i32.const 16) "g")
  (func (export "_start")
    (loop $again
      (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1))
        (then (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))
      (br $again))))"#;

/// Prints a line of 64 bytes a hundred times in a second, for ever.
pub const CHATTY: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\40\00\00\00")
  (data (i32.const 16) "2026-11-25 12:00:00 sensor 7 temperature 21.5 humidity 40.5 ok.\n")
  (func (export "_start")
    (i32.store (i32.const 224) (i32.const 1))
    (i64.store (i32.const 232) (i64.const 10000000))
    (loop $again
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (drop (call $poll (i32.const 208) (i32.const 304) (i32.const 1) (i32.const 400)))
      (br $again))))"#;

/// A daemon with folders of its own; killed when dropped.
pub struct Daemon {
    folder: tempfile::TempDir,
    child: Child,
}

impl Daemon {
    /// Starts one that has these images.
    pub fn start(images: &[(&str, &str)]) -> Daemon {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, wat) in images {
            let file = folder.path().join("import.wat");
            std::fs::write(&file, wat).expect("written");
            let file = file.display().to_string();
            assert!(
                mote(folder.path(), &["import", &file, name]).status().expect("mote").success()
            );
        }
        let mut child = mote(folder.path(), &["daemon", "--log-level", "warn"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the daemon");
        let mut line = String::new();
        let out = child.stdout.take().expect("a pipe");
        BufReader::new(out).read_line(&mut line).expect("it listens");
        Daemon { folder, child }
    }

    pub fn mote(&self, args: &[&str]) -> Command {
        mote(self.folder.path(), args)
    }

    pub fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("state/mote.sock")
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.socket())
    }

    /// Resident memory in bytes (proc(5)).
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        let kib: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
        kib << 10
    }

    /// How many bytes it has had written to the disk, in whole pages (proc(5), `write_bytes`).
    pub fn written(&self) -> u64 {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.child.id())).expect("io");
        let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        line.and_then(|bytes| bytes.parse().ok()).expect("a number")
    }

    /// How many bytes the log of a container has.
    pub fn logged(&self, id: &str) -> u64 {
        let log = self.folder.path().join(format!("root/logs/{id}.log"));
        log.metadata().map_or(0, |found| found.len())
    }

    /// CPU time that it has used, and how often each of its threads went to sleep.
    pub fn work(&self) -> (Duration, BTreeMap<String, u64>) {
        let pid = self.child.id();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        let fields: Vec<&str> =
            stat.rsplit(')').next().expect("fields").split_whitespace().collect();
        let ticks: u64 =
            [11, 12].iter().map(|at| fields[*at].parse::<u64>().expect("a number")).sum();
        let mut sleeps = BTreeMap::new();
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).expect("tasks").flatten() {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"));
            let count = line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or("0");
            let thread = task.file_name().to_string_lossy().into_owned();
            sleeps.insert(thread, count.parse().expect("a number"));
        }
        (Duration::from_millis(ticks * 10), sleeps)
    }
}

fn mote(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mote"));
    command
        .args(args)
        .env("MOTE_ROOT", folder.join("root"))
        .env("MOTE_STATE", folder.join("state"));
    command.stdout(Stdio::null());
    command
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a container prints.
pub struct Output(BufReader<UnixStream>);

impl Output {
    pub fn of(client: Client, id: &str) -> Output {
        Output(client.attach(id))
    }

    /// Waits for the next piece (Docker Engine API, "Stream format").
    pub fn frame(&mut self) {
        let mut head = [0; 8];
        self.0.read_exact(&mut head).expect("output");
        let length = u32::from_be_bytes(head[4..].try_into().expect("four bytes"));
        self.0.read_exact(&mut vec![0; length as usize]).expect("output");
    }

    /// Waits for the first byte.
    pub fn first(&mut self) {
        self.0.read_exact(&mut [0]).expect("output");
    }
}
