//! A daemon of one's own for a test, and the real `docker` command that drives it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::{Host, Out, run};

/// A running daemon; it is told to end when dropped, and waited for.
pub struct Daemon<'a> {
    host: &'a Host,
    child: Child,
}

impl<'a> Daemon<'a> {
    /// Starts the daemon of a host, and waits until it answers.
    pub fn start(host: &'a Host) -> Daemon<'a> {
        Daemon::start_with(host, &[])
    }

    pub fn start_with(host: &'a Host, more: &[&str]) -> Daemon<'a> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(host.path("daemon.log"))
            .expect("a log");
        let command = host.command(more.iter().copied().chain(["daemon"]));
        Daemon::of_command(host, command, log)
    }

    /// The same with a search path of its own.
    pub fn start_with_path(host: &'a Host, path: &str) -> Daemon<'a> {
        let log = std::fs::File::create(host.path("daemon.log")).expect("a log");
        let mut command = host.command(["daemon"]);
        command.env("PATH", path);
        Daemon::of_command(host, command, log)
    }

    fn of_command(host: &'a Host, mut command: Command, log: std::fs::File) -> Daemon<'a> {
        let mut child =
            command.stdout(Stdio::piped()).stderr(log).spawn().expect("the daemon starts");
        let mut line = String::new();
        let out = child.stdout.take().expect("a pipe");
        BufReader::new(out).read_line(&mut line).expect("it says that it listens");
        assert!(line.contains("listening"), "{line}{}", host.read("daemon.log"));
        Daemon { host, child }
    }

    /// The address of its API, as `DOCKER_HOST` has it.
    pub fn address(&self) -> String {
        format!("unix://{}", self.host.path("state/mote.sock").display())
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The `docker` command, pointed at it.
    pub fn docker_command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new("docker");
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.host.path("home"))
            .env("DOCKER_HOST", self.address())
            .stdin(Stdio::null());
        command
    }

    /// Runs `docker` to its end.
    pub fn docker<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Out {
        run(&mut self.docker_command(args))
    }

    /// Lets no file of its grow beyond so many bytes from now on, as on a disk that is full.
    pub fn bound_files(&self, bytes: Option<u64>) {
        use rustix::process::{Pid, Resource, Rlimit, prlimit};
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Fsize, limit).expect("bounded");
    }

    /// Lets it have so many descriptors from now on, as on a machine that allows few.
    pub fn bound_descriptors(&self, most: u64) {
        use rustix::process::{Pid, Resource, Rlimit, prlimit};
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Nofile, limit).expect("bounded");
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("it is gone");
        std::mem::forget(self);
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}
