//! Attacks, one guest and one test each: what a hostile guest tries, in every way that it can be isolated.
//!
//! Each checks how it went for the guest, and what became of the host: its files, its processes, another
//! container, and how long it took.

mod bombs;
mod escapes;
mod pairs;
mod sandbox;

use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Host, Out, guest};

/// How long an attack may hold anybody up.
const PATIENCE: Duration = Duration::from_secs(20);

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
        std::io::Read::read_exact(output, &mut answer).expect("it writes");
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
        let began = Instant::now();
        let args = [&["run", "-v", &grant], flags, &[attack]].concat();
        let args = args.into_iter().map(str::to_owned).chain(targets);
        let out = self.host.cli(args);
        assert!(began.elapsed() < PATIENCE, "it took {:?}: {out:?}", began.elapsed());
        assert_eq!(self.host.read("canary/secret"), SECRET, "{out:?}");
        assert_eq!(self.host.left("canary").len(), 1, "nothing is beside it: {out:?}");
        assert!(!out.stdout.contains(SECRET), "{out:?}");
        check(&self, &out);
        self.neighbour_is_well();
        assert!(self.host.left("root/scratch").is_empty(), "{out:?}");
        out
    }

    /// Whether the other container still does what it is there for.
    fn neighbour_is_well(&mut self) {
        let mut input = self.neighbour.stdin.take().expect("a pipe");
        input.write_all(b"still here").expect("it reads");
        drop(input);
        let mut output = String::new();
        let mut from = self.neighbour.stdout.take().expect("a pipe");
        std::io::Read::read_to_string(&mut from, &mut output).expect("it writes");
        assert_eq!(output, "still here");
        assert!(self.neighbour.wait().expect("it ends").success());
    }
}
