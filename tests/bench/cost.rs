//! What the sandbox costs: `mote run`, shared and in a process of its own, beside `wasmtime run` with no limits
//! and with the same ones.
//!
//! `cargo bench -p mote-cli --bench cost`; needs `wasmtime` of the same major version on the PATH, and the guests
//! of `modules/build`. Each guest times its own work and prints it, so that starts and compiling are left out;
//! medians over interleaved runs. Words behind `--` choose works whose names have one of them, and leave out starts.

#![allow(clippy::print_stdout, reason = "a benchmark prints")]

#[path = "figures/mod.rs"]
mod figures;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use figures::{median, ms};

const RUNS: usize = 15;
/// The same of works whose time depends on where the scheduler puts three processes that wait for each other.
const SOCKET_RUNS: usize = 61;

/// Guests that compute, and those that work on files and sockets.
const COMPUTE: [&str; 4] = ["sieve", "matrix", "json", "sha256"];
const FILES: [&str; 3] = ["write-through", "write-small", "walk"];
/// Those that talk to a server, which a preview 1 module cannot.
const SOCKETS: [&str; 2] = ["echo", "echo-long"];

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Ok(version) = Command::new("wasmtime").arg("--version").output() else {
        println!("wasmtime is not on the PATH");
        return;
    };
    println!("peer: {}", String::from_utf8_lossy(&version.stdout).trim());
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guests");
    let mut world = World {
        folder: folder.path().to_owned(),
        guest: guests.join("bench.p1.wasm"),
        server: serve_echo(),
    };
    std::fs::create_dir(world.path("data")).expect("made");
    tree(&world.path("data/tree"));
    println!("\n{:<14} {:>10} {:>10} {:>10} {:>10}", "", "wasmtime", "limited", "mote", "process");
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let is_chosen =
        |work: &&&str| words.is_empty() || words.iter().any(|word| work.contains(word.as_str()));
    for work in COMPUTE.iter().chain(&FILES).filter(is_chosen) {
        world.compare(work, RUNS);
    }
    if words.is_empty() {
        starts(&world);
    }
    world.guest = guests.join("bench.p2.wasm");
    println!("\na component:");
    SOCKETS.iter().filter(is_chosen).for_each(|work| world.compare(work, SOCKET_RUNS));
}

struct World {
    folder: PathBuf,
    guest: PathBuf,
    /// Sends back what it gets.
    server: SocketAddr,
}

impl World {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn mote(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mote"));
        let grant = format!("{}:/data", self.path("data").display());
        command.args(["run", "-v", &grant]).args(flags);
        if self.has_sockets() {
            command.args(["--allow-net", &format!("tcp://{}", self.server)]);
        }
        command
            .arg(&self.guest)
            .env("MOTE_ROOT", self.path("root"))
            .env("MOTE_STATE", self.path("state"));
        command
    }

    fn wasmtime(&self, flags: &[&str]) -> Command {
        let mut command = Command::new("wasmtime");
        let grant = format!("{}::/data", self.path("data").display());
        command.args(["run", "--dir", &grant]).args(flags);
        if self.has_sockets() {
            command.args(["-S", "inherit-network"]);
        }
        command.arg(&self.guest);
        command
    }

    /// What one run has written costs the next one, which would write over it, more or less time.
    fn forget_what_was_written(&self) {
        for file in ["data/big", "data/small"] {
            // Most works write nothing.
            let _ = std::fs::remove_file(self.path(file));
        }
        rustix::fs::sync();
    }

    fn has_sockets(&self) -> bool {
        self.guest.ends_with("bench.p2.wasm")
    }

    /// Runs one work in every way in turn, and prints the medians and what they are of wasmtime's.
    fn compare(&self, work: &str, runs: usize) {
        // What mote bounds without being asked: memory, and an interruption at every tick.
        let same = ["-W", "max-memory-size=268435456,timeout=600s"];
        type Way<'a> = Box<dyn Fn() -> Command + 'a>;
        let ways: [Way<'_>; 4] = [
            Box::new(|| self.wasmtime(&[])),
            Box::new(|| self.wasmtime(&same)),
            Box::new(|| self.mote(&[])),
            Box::new(|| self.mote(&["--isolation", "process"])),
        ];
        let mut times: [Vec<Duration>; 4] = Default::default();
        for round in 0..runs + 1 {
            for (way, times) in ways.iter().zip(&mut times) {
                self.forget_what_was_written();
                let took = own_time(way().arg(work).arg(self.server.to_string()));
                if round > 0 {
                    times.push(took);
                }
            }
        }
        let [free, limited, mote, process] = times.map(|mut times| median(&mut times));
        println!(
            "{work:<14} {:>7.1} ms {:>7.1} ms {:>7.1} ms {:>7.1} ms   mote/wasmtime {:.3}, with limits {:.3}; process {:.3}",
            ms(free),
            ms(limited),
            ms(mote),
            ms(process),
            mote.as_secs_f64() / free.as_secs_f64(),
            mote.as_secs_f64() / limited.as_secs_f64(),
            process.as_secs_f64() / free.as_secs_f64(),
        );
    }
}

/// Sends back what comes, each connection in a thread of its own.
fn serve_echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it has one");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            stream.set_nodelay(true).expect("set");
            std::thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    address
}

/// What a guest says that its work took, in microseconds.
fn own_time(command: &mut Command) -> Duration {
    let out = command.stdin(Stdio::null()).output().expect("it starts");
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    let said = String::from_utf8_lossy(&out.stdout);
    Duration::from_micros(said.trim().parse().expect("microseconds"))
}

/// A start in a process of its own beside one that shares its host's.
fn starts(world: &World) {
    let ways = [&["--isolation", "shared"][..], &["--isolation", "process"]];
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..43 {
        for (flags, times) in ways.iter().zip(&mut times) {
            let start = Instant::now();
            own_time(world.mote(flags).arg("nothing"));
            if round >= 3 {
                times.push(start.elapsed());
            }
        }
    }
    let [shared, process] = times.map(|mut times| ms(median(&mut times)));
    println!(
        "\na start: shared {shared:.2} ms, process {process:.2} ms: {:.2} ms more",
        process - shared
    );
}

/// Folders and files to walk through.
fn tree(at: &Path) {
    for folder in 0..40 {
        let folder = at.join(folder.to_string());
        std::fs::create_dir_all(&folder).expect("made");
        for file in 0..50 {
            std::fs::write(folder.join(file.to_string()), "x").expect("written");
        }
    }
}
