//! A neighbour under attack: how late the beats of one container are while each attack of `modules/attack` runs
//! beside it in the daemon's own process, and in a process of its own.
//!
//! `cargo bench -p mote-cli --bench attacks`, as root; needs the guests of `modules/build`. The neighbour
//! computes a little and prints, every few milliseconds; what counts is its p99 against that of quiet times in
//! the same run. Words behind `--` choose attacks whose names have one of them.

#![allow(clippy::print_stdout, reason = "a benchmark prints")]

mod common;
mod figures;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{Daemon, Output};
use figures::{ms, percentile};

/// Sleeps for 4 ms, computes for about one, and prints, for ever.
const NEIGHBOUR: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\01\00\00\00")
  (data (i32.const 16) "b")
  (func (export "_start") (local $left i32)
    (i32.store (i32.const 224) (i32.const 1))
    (i64.store (i32.const 232) (i64.const 4000000))
    (loop $again
      (drop (call $poll (i32.const 208) (i32.const 304) (i32.const 1) (i32.const 400)))
      (local.set $left (i32.const 500000))
      (loop $more (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (br $again))))"#;

/// How long each attack is watched, which starts again and again.
const WATCHED: Duration = Duration::from_secs(2);
/// After so many attacks it is quiet for as long as an attack is watched.
const AT_ONCE: usize = 30;

fn main() {
    let daemon = Daemon::start(&[("neighbour:1", NEIGHBOUR)]);
    let attacks = attacks(&daemon);
    let mut client = daemon.client();
    let neighbour = client.create("neighbour:1", "");
    let mut output = Output::of(client.again(), &neighbour);
    client.call("POST", &format!("/containers/{neighbour}/start"), "");
    output.frame();
    let mut quiet = beats(&mut output, WATCHED * 3);
    let mut watched = Vec::new();
    for isolation in ["shared", "process"] {
        for (place, (name, image)) in attacks.iter().enumerate() {
            if place % AT_ONCE == 0 {
                quiet.extend(beats(&mut output, WATCHED));
            }
            let more = format!(
                r#","Labels":{{"io.mote.isolation":"{isolation}","io.mote.memory":"16m"}},"HostConfig":{{"Tmpfs":{{"/grant":"size=64k"}},"RestartPolicy":{{"Name":"always"}}}}"#
            );
            let id = client.create(image, &more);
            // Some do not get as far as their first instruction.
            let started = client.attempt("POST", &format!("/containers/{id}/start"), "");
            started.expect("an answer");
            let mut late = beats(&mut output, WATCHED);
            client.call("DELETE", &format!("/containers/{id}?force=1"), "");
            watched.push((percentile(&mut late, 99), format!("{isolation} {name}")));
        }
    }
    let quiet = percentile(&mut quiet, 99);
    println!("quiet: a beat in {:.2} ms (p99)", ms(quiet));
    watched.sort();
    for (late, attack) in watched.iter().rev().take(20) {
        let ratio = late.as_secs_f64() / quiet.as_secs_f64();
        println!("{ratio:.2} of that, {:.2} ms: {attack}", ms(*late));
    }
    let (middle, above) = (watched[watched.len() / 2].0, |(late, _): &&_| *late > quiet * 2);
    println!(
        "{} attacks, twice: {} above twice quiet; the median is {:.2} ms",
        attacks.len(),
        watched.iter().filter(above).count(),
        ms(middle)
    );
}

/// The times between what a container prints.
fn beats(output: &mut Output, during: Duration) -> Vec<Duration> {
    let (start, mut last, mut beats) = (Instant::now(), Instant::now(), Vec::new());
    while start.elapsed() < during {
        output.frame();
        beats.push(last.elapsed());
        last = Instant::now();
    }
    beats.remove(0);
    beats
}

/// Imports every attack that needs no hook; its name, and its image's.
fn attacks(daemon: &Daemon) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let names = |folder: &str| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(root.join(folder)).expect("a folder");
        let mut paths: Vec<PathBuf> =
            entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension != "h"));
        paths.sort();
        paths
    };
    let stem = |path: &Path| path.file_stem().expect("a name").display().to_string();
    let guests = |folder: &str, standard: &str| -> Vec<PathBuf> {
        let built = |path: PathBuf| {
            root.join(format!("target/guests/attack/{}.{standard}.wasm", stem(&path)))
        };
        names(folder).into_iter().map(built).collect()
    };
    let all = [
        names("modules/attack/wat"),
        guests("modules/attack/c", "c"),
        guests("modules/attack/files/src/bin", "p1"),
        guests("modules/attack/files/src/bin", "p2"),
        guests("modules/attack/memory/src/bin", "p2"),
        guests("modules/attack/network/src/bin", "p2"),
    ];
    let import = |path: PathBuf| {
        let name = stem(&path);
        let image = format!("{}:1", name.replace('.', "-").to_lowercase());
        let status = daemon.mote(&["import", &path.display().to_string(), &image]).status();
        assert!(status.expect("mote").success(), "{image}");
        (name, image)
    };
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let is_chosen = |path: &PathBuf| {
        words.is_empty() || words.iter().any(|word| stem(path).contains(word.as_str()))
    };
    all.concat().into_iter().filter(is_chosen).map(import).collect()
}
