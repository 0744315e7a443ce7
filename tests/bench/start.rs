//! A warm start, as whole processes: `mote run` beside `wasmtime run --allow-precompiled` and `true`.
//!
//! `cargo bench -p mote-cli --bench start`. Medians over interleaved runs; ratios are what counts,
//! since machines differ and are noisy. `wasmtime` is taken from the PATH; its major version should
//! be the one that mote is built with.

#![allow(clippy::print_stdout, reason = "a benchmark prints")]

mod guests;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use guests::HELLO;

const RUNS: usize = 40;

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("hello.wat"), HELLO).expect("written");
    let mote = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mote"));
        command.args(args).env("MOTE_ROOT", path("root")).env("MOTE_STATE", path("state"));
        command
    };
    run(&mut mote(&["import", &path("hello.wat"), "hello:1"]));

    let compiled = path("hello.cwasm");
    type Start<'a> = Box<dyn Fn() -> Command + 'a>;
    let mut contenders: Vec<(&str, Start<'_>)> = vec![
        ("/bin/true", Box::new(|| Command::new("/bin/true"))),
        ("mote run --rm hello:1", Box::new(|| mote(&["run", "--rm", "hello:1"]))),
    ];
    match Command::new("wasmtime").args(["compile", "-o", &compiled, &path("hello.wat")]).status() {
        Ok(status) if status.success() => {
            let version = Command::new("wasmtime").arg("--version").output().expect("wasmtime");
            println!("peer: {}", String::from_utf8_lossy(&version.stdout).trim());
            contenders.push((
                "wasmtime run --allow-precompiled hello.cwasm",
                Box::new(|| {
                    let mut command = Command::new("wasmtime");
                    command.args(["run", "--allow-precompiled", &compiled]);
                    command
                }),
            ));
        }
        _ => println!("wasmtime is not on the PATH: mote is measured alone"),
    }

    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); contenders.len()];
    for round in 0..RUNS + 3 {
        for (contender, times) in contenders.iter().zip(&mut times) {
            let start = Instant::now();
            run(&mut contender.1());
            // The first rounds warm the caches.
            if round >= 3 {
                times.push(start.elapsed());
            }
        }
    }
    let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
    for ((name, _), median) in contenders.iter().zip(&medians) {
        println!("{name:<46} {median:6.2} ms  ({:.2} of mote)", median / medians[1]);
    }
    println!("mote takes {:.2} ms more than /bin/true", medians[1] - medians[0]);
    if let Some(wasmtime) = medians.get(2) {
        println!("mote / wasmtime: {:.2}", medians[1] / wasmtime);
    }
}

fn run(command: &mut Command) {
    let status = command.stdout(Stdio::null()).stdin(Stdio::null()).status().expect("it starts");
    assert!(status.success(), "{command:?}");
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1000.0
}
