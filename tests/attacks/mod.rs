//! Attacks, one guest and one test each: what a hostile guest tries, in every way that it can be isolated.
//!
//! Each checks how it went for the guest, and what became of the host: its files, its processes, another
//! container, how much memory it took, and how long.

mod bombs;
mod daemon;
mod escapes;
mod images;
mod pairs;
mod sandbox;

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::harness::{Host, Out, guest};

/// How long an attack may hold anybody up.
const PATIENCE: Duration = Duration::from_secs(20);
/// How much memory mote itself may take, not optimised and with all that it maps.
const PROGRAM: u64 = 48 << 20;

/// A host that has something to lose: a file that nobody is granted, a folder that is granted, a port of its
/// own, and a container of somebody else's.
pub struct World {
    pub host: Host,
    port: std::net::TcpListener,
    neighbour: Child,
}

const SECRET: &str = "a secret of the host";

impl World {
    pub fn new() -> World {
        let host = Host::new();
        host.file("canary/secret", SECRET);
        host.file("grant/own", "a file of the guest's");
        host.import("other:1", &crate::harness::printing("other"));
        let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut command =
            host.command(["run", "-i", "--name", "neighbour", "--tmpfs", "/t", &guest("cat.p1")]);
        let neighbour = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut neighbour = neighbour.expect("the neighbour starts");
        // It runs when it has answered.
        let mut answer = [0; 6];
        neighbour.stdin.as_mut().expect("a pipe").write_all(b"hello\n").expect("it reads");
        let output = neighbour.stdout.as_mut().expect("a pipe");
        output.read_exact(&mut answer).expect("it writes");
        World { host, port, neighbour }
    }

    /// What an attack is told of the world, in this order.
    pub fn targets(&self) -> Vec<String> {
        let path = |name: &str| self.host.path(name).display().to_string();
        vec![
            path("canary/secret"),
            path("grant"),
            path("root"),
            path("state"),
            path("state/mote.sock"),
            self.port.local_addr().expect("an address").port().to_string(),
            self.neighbour.id().to_string(),
        ]
    }

    /// Puts links into the grant that lead out of it, as a careless host may have.
    pub fn links(&self) {
        for (name, to) in [("up", "/"), ("beside", "../canary"), ("root", "/proc/self/root")] {
            let link = self.host.path("grant").join(name);
            std::os::unix::fs::symlink(to, link).expect("linked");
        }
    }

    /// Runs an attack with these flags, and sees to it that the host and its neighbour are as they were, and
    /// that nothing came into the grant.
    pub fn attacked(self, flags: &[&str], attack: &str) -> Out {
        self.attacked_and(flags, attack, |world, out| {
            let is_link = |path: &String| Path::new(path).is_symlink();
            let own = |path: &String| path.ends_with("/grant/own") || is_link(path);
            assert!(world.host.left("grant").iter().all(own), "nothing came into it: {out:?}");
        })
    }

    /// The same, with a check of one's own.
    pub fn attacked_and(
        mut self,
        flags: &[&str],
        attack: &str,
        check: impl Fn(&World, &Out),
    ) -> Out {
        // What is granted read-only is said with the grant itself.
        let (access, flags) = match flags.split_last() {
            Some((&"--read-only-grant", rest)) => (":ro", rest),
            _ => ("", flags),
        };
        let (grant, targets) = (format!("{}:/grant{access}", self.targets()[1]), self.targets());
        let named = flags.iter().position(|flag| *flag == "--memory").map(|place| flags[place + 1]);
        let limit = named.unwrap_or("64m");
        let memory: &[&str] = if named.is_some() { &[] } else { &["--memory", limit] };
        let began = Instant::now();
        let args = [&["run", "-v", &grant], memory, flags, &[attack]].concat();
        let args = args.into_iter().map(str::to_owned).chain(targets);
        // What the compiler takes is its own affair. Not every attack gets as far.
        let fuel = flags.contains(&"--fuel").then_some("--fuel");
        self.host.cli(["compile", attack].into_iter().chain(fuel));
        let (out, used) = to_the_end(&mut self.host.command(args));
        // The guest's own, and as much again of the host's.
        let limit = limit.trim_end_matches('m').parse::<u64>().expect("a number of MiB") << 20;
        let most = limit + limit.max(16 << 20) + PROGRAM;
        assert!(used <= most, "it had {} MiB: {out:?}", used >> 20);
        assert!(began.elapsed() < PATIENCE, "it took {:?}: {out:?}", began.elapsed());
        assert_eq!(self.host.read("canary/secret"), SECRET, "{out:?}");
        assert_eq!(self.host.left("canary").len(), 1, "nothing is beside it: {out:?}");
        assert!(!out.stdout.contains(SECRET), "{out:?}");
        check(&self, &out);
        self.neighbour_is_well();
        assert!(self.host.left("root/scratch").is_empty(), "{out:?}");
        out
    }

    /// Whether the host and the other container are as they were.
    pub fn unharmed(mut self) -> World {
        assert_eq!(self.host.read("canary/secret"), SECRET);
        self.neighbour_is_well();
        self
    }

    /// Whether the other container still does what it is there for.
    fn neighbour_is_well(&mut self) {
        let mut input = self.neighbour.stdin.take().expect("a pipe");
        input.write_all(b"still here").expect("it reads");
        drop(input);
        let mut output = String::new();
        let mut from = self.neighbour.stdout.take().expect("a pipe");
        from.read_to_string(&mut output).expect("it writes");
        assert_eq!(output, "still here");
        assert!(self.neighbour.wait().expect("it ends").success());
    }
}

/// Runs a command to its end, and tells how many bytes of memory it had at most at once, or one of its processes
/// (getrusage(2)).
#[expect(clippy::zombie_processes, reason = "wait4 waits for it")]
fn to_the_end(command: &mut Command) -> (Out, u64) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let stdout = reader(child.stdout.take().expect("a pipe"));
    let stderr = reader(child.stderr.take().expect("a pipe"));
    let (mut status, mut usage) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: both are there to be written to, and any bits are a valid `rusage`.
    let (ended, usage) = unsafe {
        let ended = libc::wait4(child.id() as libc::pid_t, &raw mut status, 0, usage.as_mut_ptr());
        (ended, usage.assume_init())
    };
    assert!(ended > 0, "it is this process's child");
    let text = |reader: JoinHandle<String>| reader.join().expect("read to its end");
    let code = ExitStatus::from_raw(status).code().unwrap_or(-1);
    (Out { stdout: text(stdout), stderr: text(stderr), code }, usage.ru_maxrss as u64 * 1024)
}

/// Reads all, and keeps the beginning: what this process has counts for what it starts.
fn reader(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut beginning = Vec::new();
        from.by_ref().take(1 << 20).read_to_end(&mut beginning).expect("read");
        std::io::copy(&mut from, &mut std::io::sink()).expect("read");
        String::from_utf8_lossy(&beginning).into_owned()
    })
}
