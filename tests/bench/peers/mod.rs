//! A whole hello through a command line: mote's daemon beside containerd with runc, and podman.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::Daemon;
use crate::containerd::Containerd;
use crate::figures::{median, timed};

const RUNS: usize = 20;

/// The native hello, linked statically.
const NATIVE: &str =
    "#include <unistd.h>\nint main(void) { return write(1, \"hello\\n\", 6) != 6; }\n";

type Start<'a> = Box<dyn Fn(usize) -> Command + 'a>;

/// Runs them in turn, and prints their medians.
pub fn compare(daemon: &Daemon) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rootfs = folder.path().join("rootfs");
    std::fs::create_dir(&rootfs).expect("made");
    if !native(&rootfs) {
        println!("no C compiler: peers are left out");
        return;
    }
    let root = rootfs.display().to_string();
    let socket = daemon.socket().display().to_string();
    let mut contenders: Vec<(&str, Start<'_>)> = vec![(
        "docker run --rm hello:1 on mote",
        Box::new(move |_| {
            let mut command = Command::new("docker");
            command.args(["run", "--rm", "hello:1"]).env("DOCKER_HOST", format!("unix://{socket}"));
            command
        }),
    )];
    let containerd = Containerd::start(folder.path(), &[]);
    if let Some(containerd) = &containerd {
        let (address, root) = (containerd.address.clone(), root.clone());
        contenders.push((
            "ctr run --rm with runc",
            Box::new(move |run| {
                let mut command = Command::new("ctr");
                let name = format!("hello-{run}");
                command.args(["-a", &address, "run", "--rm", "--rootfs", &root, &name, "/hello"]);
                command
            }),
        ));
    }
    let storage = folder.path().join("podman").display().to_string();
    contenders.push((
        "podman run --rm with runc",
        Box::new(move |_| {
            let mut command = Command::new("podman");
            command.args(["--root", &storage, "--runroot", &storage, "--runtime", "runc"]);
            command.args(["--cgroup-manager", "cgroupfs", "run", "--rm", "--network", "none"]);
            command.args(["--ulimit", "host", "--rootfs", &root, "/hello"]);
            command
        }),
    ));
    let works = |(name, start): &(&str, Start<'_>)| {
        let ran = start(1000).stdin(Stdio::null()).output();
        let works = ran.is_ok_and(|out| out.status.success() && out.stdout == b"hello\n");
        if !works {
            println!("{name}: does not run here, and is left out");
        }
        works
    };
    contenders.retain(works);
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); contenders.len()];
    for run in 0..RUNS {
        for ((_, start), times) in contenders.iter().zip(&mut times) {
            let mut command = start(run);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            times.push(timed(|| assert!(command.status().expect("it starts").success())));
        }
    }
    let medians: Vec<f64> =
        times.iter_mut().map(|times| median(times).as_secs_f64() * 1000.0).collect();
    for ((name, _), median) in contenders.iter().zip(&medians) {
        println!("{name:<32} {median:6.1} ms  ({:.1} of the first)", median / medians[0]);
    }
}

fn native(rootfs: &Path) -> bool {
    let out = rootfs.join("hello");
    let child = Command::new("cc")
        .args(["-static", "-O2", "-x", "c", "-", "-o"])
        .arg(out)
        .stdin(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else { return false };
    let written = child.stdin.take().is_some_and(|mut to| to.write_all(NATIVE.as_bytes()).is_ok());
    child.wait().is_ok_and(|status| status.success()) && written
}
