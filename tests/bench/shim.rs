//! The shim under containerd, beside runc in the same one: a whole hello through `ctr`, and what idle
//! containers take of memory.
//!
//! `cargo build --release -p mote-cli && cargo bench -p mote-shim --bench shim`, as root, with containerd,
//! runc and a C compiler on the machine; `containerd-shim-wasmtime-v1` takes part where it is on the path.
//! Medians of interleaved runs; proportional memory (PSS, proc(5)) of the shims and all that they serve.

#![allow(clippy::print_stdout, reason = "a benchmark prints")]
#![allow(clippy::disallowed_methods, reason = "it reads the environment that it was started in")]

mod containerd;
mod guests;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use containerd::Containerd;
use guests::{HELLO, SLEEP};

const RUNS: usize = 20;
const CROWDS: [usize; 4] = [1, 10, 100, 250];

/// Says hello, or sleeps for ever where it has an argument.
const NATIVE: &str = "#include <unistd.h>\n
int main(int argc, char **argv) { if (argc > 1) for (;;) pause(); return write(1, \"hello\\n\", 6) != 6; }";

/// Who takes part: its runtime, and the words that say hello and sleep.
struct Contender {
    name: &'static str,
    runtime: &'static str,
    hello: &'static [&'static str],
    sleep: &'static [&'static str],
}

const CONTENDERS: [Contender; 3] = [
    Contender {
        name: "mote",
        runtime: "io.containerd.mote.v1",
        hello: &["/hello.wasm"],
        sleep: &["/sleep.wasm"],
    },
    Contender {
        name: "runc",
        runtime: "io.containerd.runc.v2",
        hello: &["/native"],
        sleep: &["/native", "sleep"],
    },
    Contender {
        name: "runwasi's wasmtime",
        runtime: "io.containerd.wasmtime.v1",
        hello: &["/hello.wasm"],
        sleep: &["/sleep.wasm"],
    },
];

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rootfs = folder.path().join("rootfs");
    prepare(&rootfs);
    let shim = Path::new(env!("CARGO_BIN_EXE_containerd-shim-mote-v1"));
    let size = shim.metadata().map_or(0, |found| found.len());
    println!("the shim has {:.1} MiB", size as f64 / f64::from(1 << 20));
    let usual = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(shim.parent().expect("a folder").to_owned())
        .chain(std::env::split_paths(&usual));
    let variables = [
        ("PATH", std::env::join_paths(path).expect("a path")),
        ("MOTE_ROOT", folder.path().join("mote").into_os_string()),
        ("MOTE_STATE", folder.path().join("state").into_os_string()),
    ];
    let containerd = Containerd::start(folder.path(), &variables).expect("containerd is here");
    let bench = Bench { address: containerd.address.clone(), rootfs };
    let contenders: Vec<&Contender> =
        CONTENDERS.iter().filter(|contender| bench.says_hello(contender)).collect();
    bench.starts(&contenders);
    for contender in &contenders {
        CROWDS.iter().for_each(|many| bench.crowd(contender, *many));
    }
}

/// Makes the files that containers are run from.
fn prepare(rootfs: &Path) {
    std::fs::create_dir(rootfs).expect("made");
    for (name, text) in [("hello.wasm", HELLO), ("sleep.wasm", SLEEP)] {
        std::fs::write(rootfs.join(name), wat::parse_str(text).expect("Wasm")).expect("written");
    }
    let source = rootfs.with_extension("c");
    std::fs::write(&source, NATIVE).expect("written");
    let built = Command::new("cc")
        .args(["-static", "-O2", "-o"])
        .args([rootfs.join("native"), source])
        .status();
    assert!(built.is_ok_and(|status| status.success()), "a C compiler is here");
}

struct Bench {
    address: String,
    rootfs: PathBuf,
}

impl Bench {
    fn ctr(&self, args: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.args(["--address", &self.address]).args(args).stdin(Stdio::null());
        command
    }

    fn run(&self, contender: &Contender, (flag, id): (&str, &str), words: &[&str]) -> Command {
        let rootfs = self.rootfs.display().to_string();
        let run = ["run", flag, "--runtime", contender.runtime, "--rootfs", &rootfs, id];
        self.ctr(&[&run[..], words].concat())
    }

    fn says_hello(&self, contender: &Contender) -> bool {
        let said = self.run(contender, ("--rm", "first"), contender.hello).output();
        let says = said.is_ok_and(|said| said.stdout == b"hello\n");
        if !says {
            println!("{}: does not run here, and is left out", contender.name);
        }
        says
    }

    /// A whole hello, warm.
    fn starts(&self, contenders: &[&Contender]) {
        let mut times = vec![Vec::new(); contenders.len()];
        for run in 0..RUNS {
            for (contender, times) in contenders.iter().zip(&mut times) {
                let id = format!("hello-{run}");
                let mut command = self.run(contender, ("--rm", &id), contender.hello);
                command.stdout(Stdio::null()).stderr(Stdio::null());
                let start = Instant::now();
                assert!(command.status().expect("it starts").success());
                times.push(start.elapsed());
            }
        }
        for (contender, times) in contenders.iter().zip(&mut times) {
            times.sort_unstable();
            let ms = |time: Duration| time.as_secs_f64() * 1000.0;
            println!(
                "{:<20} ctr run --rm hello: median {:6.1} ms, slowest {:6.1} ms",
                contender.name,
                ms(times[times.len() / 2]),
                ms(times[times.len() - 1])
            );
        }
    }

    /// What so many idle containers take, each with a shim of its own.
    fn crowd(&self, contender: &Contender, many: usize) {
        let ids: Vec<String> = (0..many).map(|number| format!("idle-{number}")).collect();
        let before = processes();
        for id in &ids {
            let mut command = self.run(contender, ("--detach", id), contender.sleep);
            assert!(command.output().expect("it starts").status.success());
        }
        let pss: u64 = processes().iter().filter(|pid| !before.contains(pid)).map(pss).sum();
        println!(
            "{:<20} {many:>4} idle: {:.2} MiB PSS each",
            contender.name,
            pss as f64 / many as f64 / f64::from(1 << 20)
        );
        for id in &ids {
            // What has gone by itself needs no removal.
            let _ = self.ctr(&["tasks", "rm", "--force", id]).output();
            let _ = self.ctr(&["containers", "rm", id]).output();
        }
    }
}

fn processes() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Proportional memory of a process, in bytes.
fn pss(pid: &u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}
