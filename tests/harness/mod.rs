//! A host of one's own for every test, and the parts of the world that tests meet.

mod api;
mod containerd;
mod cri;
mod daemon;
mod docker_registry;
mod guests;
mod oci;
mod unruly;

pub use api::Client;
pub use containerd::{Containerd, Version};
pub use cri::{Cri, Message};
pub use daemon::Daemon;
pub use docker_registry::{Auth, DockerRegistry};
pub use guests::{guest, native_program};
pub use oci::{Blob, Image, sha256, tar};
pub use unruly::{Asked, Reply, Unruly};

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder that stands for a machine: images, state, home.
pub struct Host {
    dir: tempfile::TempDir,
}

/// What a command left behind.
#[derive(Debug)]
pub struct Out {
    pub stdout: String,
    pub stderr: String,
    pub code: i32,
}

impl Host {
    pub fn new() -> Host {
        Host { dir: tempfile::tempdir().expect("a temporary folder") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file, and returns its path as text.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, content).expect("written");
        path.display().to_string()
    }

    /// The text of a file.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Makes a folder, and returns its path as text.
    pub fn folder(&self, name: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(&path).expect("made");
        path.display().to_string()
    }

    /// A `mote` command of this host that has not been started.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mote"));
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("MOTE_ROOT", self.path("root"))
            .env("MOTE_STATE", self.path("state"))
            .stdin(Stdio::null());
        command
    }

    /// Runs `mote` to its end.
    pub fn cli<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Out {
        run(&mut self.command(args))
    }

    /// Runs `mote` with something on its standard input.
    pub fn cli_with_input(&self, args: &[&str], input: &str) -> Out {
        use std::io::Write;
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("mote starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).expect("written");
        drop(stdin);
        Out::of(child.wait_with_output().expect("mote ends"))
    }

    /// Makes a local image of WebAssembly text.
    pub fn import(&self, name: &str, wat: &str) {
        let file = self.file("import.wat", wat);
        self.cli(["import", file.as_str(), name]).success();
    }

    /// The names of everything below a folder of this host.
    pub fn left(&self, folder: &str) -> Vec<String> {
        let mut names = Vec::new();
        collect(&self.path(folder), &mut names);
        names
    }
}

fn collect(folder: &Path, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        // A link may lead anywhere.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), names);
        }
        names.push(entry.path().display().to_string());
    }
}

/// Runs any command to its end.
pub fn run(command: &mut Command) -> Out {
    let output =
        command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    Out::of(output)
}

/// Runs a tool that has to succeed, and returns what it printed.
pub fn tool<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> String {
    run(Command::new(program).args(args)).success().stdout
}

impl Out {
    fn of(output: Output) -> Out {
        Out {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code().unwrap_or(-1),
        }
    }

    #[track_caller]
    pub fn success(self) -> Out {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }

    /// Checks the exit code, and that the error says each of these.
    #[track_caller]
    pub fn fails(self, code: i32, says: &[&str]) -> Out {
        assert_eq!(self.code, code, "{self:#?}");
        for text in says {
            assert!(self.stderr.contains(text), "`{text}` is missing: {self:#?}");
        }
        self
    }
}

/// A module that prints a text.
pub fn printing(text: &str) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\{:02x}\00\00\00")
  (data (i32.const 16) "{}\n")
  (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#,
        text.len() + 1,
        text
    )
}

/// The same in binary form.
pub fn printing_wasm(text: &str) -> Vec<u8> {
    wat::parse_str(printing(text)).expect("valid text")
}
