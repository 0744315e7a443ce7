//! The shim under containerd, beside runc in the same one: a whole hello through `ctr`, the second container
//! of a pod, starts and memory of a crowd of pods, and whether its CPU statistics are true.
//!
//! `cargo build --release -p mote-cli && cargo bench -p mote-shim --bench shim`, as root, with containerd,
//! runc and a C compiler on the machine; `containerd-shim-wasmtime-v1` takes part where it is on the path.
//! Medians of interleaved runs; proportional memory (PSS, proc(5)) of the shims and all that they serve.
//! Writes its plots to target/shim-memory.svg and target/shim-starts.svg.

#![allow(clippy::print_stdout, reason = "a benchmark prints")]
#![allow(clippy::disallowed_methods, reason = "it reads the environment that it was started in")]

mod containerd;
mod figures;
mod guests;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use containerd::Containerd;
use figures::{Plot, median, mib, ms, percentile, timed};
use guests::{HELLO, SLEEP};

const RUNS: usize = 20;
const CROWDS: [usize; 4] = [1, 10, 100, 250];
/// How long statistics are compared with the kernel's own.
const WATCH: Duration = Duration::from_secs(10);

/// Computes for ever.
const SPIN: &str =
    r#"(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))"#;

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
    println!("the shim has {:.1} MiB", mib(size));
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
    bench.second_containers(&contenders);
    bench.socket(shim, folder.path(), &variables);
    bench.statistics();
    let (mut memory, mut starts) = (Vec::new(), Vec::new());
    for contender in &contenders {
        let crowds = CROWDS.map(|many| (many, bench.crowd(contender, many)));
        memory
            .push((contender.name, crowds.iter().map(|(many, found)| (*many, found.0)).collect()));
        starts
            .push((contender.name, crowds.iter().map(|(many, found)| (*many, found.1)).collect()));
    }
    let counted = "idle pods";
    let limit = Some((1.5, "1.5 MiB"));
    Plot { title: "PSS of each, MiB", counted, lines: &memory, limit }.write("shim-memory");
    Plot { title: "median start, ms", counted, lines: &starts, limit: None }.write("shim-starts");
}

/// Makes the files that containers are run from.
fn prepare(rootfs: &Path) {
    std::fs::create_dir(rootfs).expect("made");
    for (name, text) in [("hello.wasm", HELLO), ("sleep.wasm", SLEEP), ("spin.wasm", SPIN)] {
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

    /// `ctr run`, in a group of containers where one is named.
    fn run_in(
        &self,
        contender: &Contender,
        (flag, id, group): (&str, &str, &str),
        words: &[&str],
    ) -> Command {
        let rootfs = self.rootfs.display().to_string();
        let group = format!("io.containerd.runc.v2.group={group}");
        let run = ["run", flag, "--runtime", contender.runtime, "--annotation", &group];
        self.ctr(&[&run[..], &["--rootfs", &rootfs, id], words].concat())
    }

    fn run(&self, contender: &Contender, (flag, id): (&str, &str), words: &[&str]) -> Command {
        self.run_in(contender, (flag, id, id), words)
    }

    fn start(&self, command: &mut Command) -> Duration {
        command.stdout(Stdio::null()).stderr(Stdio::null());
        timed(|| assert!(command.status().expect("it starts").success()))
    }

    fn remove(&self, id: &str) {
        // What has gone by itself needs no removal.
        let _ = self.ctr(&["tasks", "rm", "--force", id]).output();
        let _ = self.ctr(&["containers", "rm", id]).output();
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
                times.push(self.start(&mut self.run(contender, ("--rm", &id), contender.hello)));
            }
        }
        for (contender, times) in contenders.iter().zip(&mut times) {
            println!(
                "{:<20} ctr run --rm hello: median {:6.1} ms, slowest {:6.1} ms",
                contender.name,
                ms(median(times)),
                ms(percentile(times, 100))
            );
        }
    }

    /// The first start of a pod's second container.
    fn second_containers(&self, contenders: &[&Contender]) {
        let mut times = vec![Vec::new(); contenders.len()];
        for run in 0..RUNS {
            for (contender, times) in contenders.iter().zip(&mut times) {
                let [first, second] = ["first", "second"].map(|name| format!("{name}-{run}"));
                let start = |id: &str| {
                    let named = ("--detach", id, first.as_str());
                    self.start(&mut self.run_in(contender, named, contender.sleep))
                };
                start(&first);
                times.push(start(&second));
                [second, first].iter().for_each(|id| self.remove(id));
            }
        }
        for (contender, times) in contenders.iter().zip(&mut times) {
            println!(
                "{:<20} second container of a pod: median {:6.1} ms",
                contender.name,
                ms(median(times))
            );
        }
    }

    /// How long `start` takes, after which the pod's socket answers.
    fn socket(&self, shim: &Path, folder: &Path, variables: &[(&str, std::ffi::OsString)]) {
        let bundle = folder.join("bundle");
        std::fs::create_dir(&bundle).expect("made");
        let spec = r#"{"ociVersion":"1.1.0","process":{"user":{"uid":0,"gid":0},"cwd":"/","args":["/a"]},"root":{"path":"r"}}"#;
        std::fs::write(bundle.join("config.json"), spec).expect("written");
        let before = processes();
        let mut times = Vec::new();
        for run in 0..RUNS {
            let id = format!("socket-{run}");
            let mut command = Command::new(shim);
            command.current_dir(&bundle).envs(variables.iter().map(|(name, value)| (name, value)));
            command.args(["-namespace", "bench", "-address", &self.address, "-id", &id, "start"]);
            command.stdin(Stdio::null());
            let mut socket = String::new();
            times.push(timed(|| {
                let said = command.output().expect("it starts").stdout;
                let said = String::from_utf8_lossy(&said).into_owned();
                socket = said.strip_prefix("unix://").expect("an address").to_owned();
                std::os::unix::net::UnixStream::connect(&socket).expect("it listens");
            }));
            std::fs::remove_file(&socket).expect("removed");
        }
        println!("mote's socket is there after {:.1} ms (median)", ms(median(&mut times)));
        for pid in processes().into_iter().filter(|pid| !before.contains(pid)) {
            let is_shim = std::fs::read_link(format!("/proc/{pid}/exe"))
                .is_ok_and(|exe| exe == shim.canonicalize().unwrap_or_default());
            if is_shim {
                let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
            }
        }
    }

    /// What a busy guest is said to have used, and what the kernel says that its process has.
    fn statistics(&self) {
        let mote = &CONTENDERS[0];
        self.start(&mut self.run(mote, ("--detach", "spin"), &["/spin.wasm"]));
        let listed = self.ctr(&["tasks", "ls"]).output().expect("ctr").stdout;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        let line = listed.lines().find(|line| line.starts_with("spin")).expect("it runs");
        let pid: u32 =
            line.split_whitespace().nth(1).and_then(|pid| pid.parse().ok()).expect("a pid");
        let both = || (self.said("spin"), used(pid));
        let (said, truth) = both();
        std::thread::sleep(WATCH);
        let (said_after, truth_after) = both();
        let (said, truth) = (said_after - said, truth_after - truth);
        println!(
            "CPU statistics over {} s: {:.3} s of {:.3} s, {:+.1} %",
            WATCH.as_secs(),
            said.as_secs_f64(),
            truth.as_secs_f64(),
            100.0 * (said.as_secs_f64() / truth.as_secs_f64() - 1.0)
        );
        self.remove("spin");
    }

    /// The CPU time that statistics say.
    fn said(&self, id: &str) -> Duration {
        let shown = self.ctr(&["tasks", "metrics", id]).output().expect("ctr").stdout;
        let shown = String::from_utf8_lossy(&shown).into_owned();
        let value = |name: &str| {
            let line = shown.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        let nanos = value("cpuacct.usage ").or_else(|| Some(value("cpu.usage_usec")? * 1000));
        Duration::from_nanos(nanos.expect("a figure"))
    }

    /// What so many idle containers take, each with a shim of its own: MiB of each, and the median start.
    fn crowd(&self, contender: &Contender, many: usize) -> (f64, f64) {
        let ids: Vec<String> = (0..many).map(|number| format!("idle-{number}")).collect();
        let before = processes();
        let start =
            |id: &String| self.start(&mut self.run(contender, ("--detach", id), contender.sleep));
        let mut times: Vec<Duration> = ids.iter().map(start).collect();
        let pss: u64 = processes().iter().filter(|pid| !before.contains(pid)).map(pss).sum();
        let each = mib(pss) / many as f64;
        println!(
            "{:<20} {many:>4} idle: {each:.2} MiB PSS each; starts p50 {:.1} ms, p99 {:.1} ms",
            contender.name,
            ms(percentile(&mut times, 50)),
            ms(percentile(&mut times, 99)),
        );
        ids.iter().for_each(|id| self.remove(id));
        (each, ms(median(&mut times)))
    }
}

/// The CPU time of a process, as the kernel counts it by its scheduler (proc(5), `schedstat`).
fn used(pid: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten();
    let of = |thread: std::fs::DirEntry| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        text.split_whitespace().next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0)
    };
    Duration::from_nanos(threads.map(of).sum())
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
