//! A pull from a registry on loopback: `mote pull` beside `oras copy` and `skopeo copy`.
//!
//! `cargo bench -p mote-cli --bench pull`. One layer of 64 MiB, and forty of 1 MiB; medians over
//! interleaved runs, and the largest resident memory. mote's copy is synced to the disk, the others'
//! are not. Needs `docker-registry` and `oras` on the PATH (`tests/run --setup`), takes `skopeo` if it is there.

#![allow(clippy::print_stdout, reason = "a benchmark prints")]

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const RUNS: usize = 21;

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (mut registry, address) = start_registry(&path("config.yml"), &path("data"));
    std::fs::create_dir(path("push")).expect("made");
    std::fs::write(path("push/app.wasm"), b"\0asm\x01\0\0\0").expect("written");
    noise(&path("push/big"), 64 << 20, 1);
    let mut many = Vec::new();
    for number in 0..40 {
        noise(&path(&format!("push/{number}")), 1 << 20, number + 2);
        many.push(format!("{number}:application/octet-stream"));
    }
    push(&path("push"), &format!("{address}/one:1"), &["big:application/octet-stream".to_owned()]);
    push(&path("push"), &format!("{address}/forty:1"), &many);

    for (image, what) in [("one:1", "one layer of 64 MiB"), ("forty:1", "forty layers of 1 MiB")] {
        println!("{what}:");
        let source = format!("{address}/{image}");
        let target = path("target");
        let mut contenders: Vec<(&str, Vec<String>)> = vec![
            (
                env!("CARGO_BIN_EXE_mote"),
                words(&[
                    "--root",
                    &target,
                    "--state",
                    &target,
                    "pull",
                    "-q",
                    "--no-compile",
                    &source,
                ]),
            ),
            (
                "oras",
                words(&[
                    "copy",
                    "--from-plain-http",
                    "--to-oci-layout",
                    &source,
                    &format!("{target}:1"),
                ]),
            ),
        ];
        if Command::new("skopeo").arg("--version").stdout(Stdio::null()).status().is_ok() {
            let from = format!("docker://{source}");
            contenders.push((
                "skopeo",
                words(&["copy", "-q", "--src-tls-verify=false", &from, &format!("oci:{target}:1")]),
            ));
        }
        let mut times = vec![Vec::new(); contenders.len()];
        let mut memory = vec![0; contenders.len()];
        for round in 0..=RUNS {
            // Whoever comes first finds what the last one of the round before left to the disk.
            for place in 0..contenders.len() {
                let at = (round + place) % contenders.len();
                let (program, args) = &contenders[at];
                let _ = std::fs::remove_dir_all(&target);
                rustix::fs::sync();
                let (time, resident) = measure(program, args);
                if round > 0 {
                    times[at].push(time);
                    memory[at] = memory[at].max(resident);
                }
            }
        }
        let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
        for (at, (program, _)) in contenders.iter().enumerate() {
            let name = program.rsplit('/').next().unwrap_or(program);
            println!(
                "  {name:<8} {:6.1} ms  {:5.1} MiB resident  ({:.2} of mote)",
                medians[at],
                memory[at] as f64 / 1024.0,
                medians[at] / medians[0]
            );
        }
    }
    let _ = registry.kill();
    let _ = registry.wait();
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn start_registry(config: &str, data: &str) -> (Child, String) {
    let text = format!(
        "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {data}}}}}\nhttp: {{addr: 127.0.0.1:0}}\n"
    );
    std::fs::write(config, text).expect("written");
    let mut command = Command::new("docker-registry");
    command.args(["serve", config]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child =
        command.spawn().expect("docker-registry is missing: tests/run --setup installs it");
    let mut log = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut line = String::new();
    while !line.contains("listening on ") {
        line.clear();
        assert_ne!(log.read_line(&mut line).expect("read"), 0, "the registry ended");
    }
    let address = line.split("listening on ").nth(1).expect("an address");
    let address = address.chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect();
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    (child, address)
}

fn push(folder: &str, image: &str, layers: &[String]) {
    let mut command = Command::new("oras");
    command
        .current_dir(folder)
        .args(["push", "--plain-http", image, "app.wasm:application/wasm"])
        .args(layers);
    let status = command
        .stdout(Stdio::null())
        .status()
        .expect("oras is missing: tests/run --setup installs it");
    assert!(status.success());
}

/// Writes bytes that do not compress, a piece at a time: a child starts out with its parent's peak of
/// resident memory, so this process has to stay small.
fn noise(path: &str, size: usize, seed: u64) {
    use std::io::Write;
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut file = std::fs::File::create(path).expect("made");
    for _ in 0..size >> 20 {
        let piece: Vec<u8> =
            std::iter::repeat_with(&mut next).take((1 << 20) / 8).flatten().collect();
        file.write_all(&piece).expect("written");
    }
}

/// The time of a process, and its largest resident memory in KiB, as the kernel tells it.
#[expect(clippy::zombie_processes, reason = "wait4 reaps the child and tells what it used")]
fn measure(program: &str, args: &[String]) -> (Duration, u64) {
    let mut command = Command::new(program);
    command.args(args).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let start = Instant::now();
    let child = command.spawn().expect("it starts");
    let mut status = 0;
    // SAFETY: both pointers lead to values of this frame, and the child is ours and not reaped yet.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::wait4(child.id() as libc::pid_t, &mut status, 0, &mut usage);
        usage
    };
    assert_eq!(status, 0, "{program} {args:?}");
    (start.elapsed(), usage.ru_maxrss as u64)
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1000.0
}
