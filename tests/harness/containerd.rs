//! A containerd of one's own for a test, with the shim on its path, and `ctr`, which drives it. As root.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::cri::Cri;
use super::oci::{Blob, Image};
use super::{Host, Out, run, tar, tool};

/// Which containerd is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Debian bookworm's, 1.6.
    One,
    /// Debian trixie's, 1.7.
    OneSeven,
    /// The newest of Debian; both from `modules/prepare`.
    Two,
}

impl Version {
    pub const ALL: [Version; 3] = [Version::One, Version::OneSeven, Version::Two];
}

/// A running containerd; it and its tasks are ended when it is dropped.
pub struct Containerd<'a> {
    host: &'a Host,
    version: Version,
    child: Child,
}

impl<'a> Containerd<'a> {
    pub fn start(host: &'a Host, version: Version) -> Containerd<'a> {
        Containerd::start_as(host, version, (&[&CRI[..], &SLOW[..]].concat(), ""), &programs())
    }

    /// Starts one whose shims have a compiler that notes in a file each time that it is started.
    pub fn start_counting(host: &'a Host, version: Version) -> Containerd<'a> {
        let folder = PathBuf::from(host.folder("bin"));
        let shim = programs().join(SHIM);
        std::fs::copy(shim, folder.join(SHIM)).expect("copied");
        let script = format!(
            "#!/bin/sh\necho compiled >>{:?}\nexec {:?} \"$@\"\n",
            host.path("compiles"),
            env!("CARGO_BIN_EXE_mote")
        );
        let mote = host.file("bin/mote", script);
        tool("chmod", ["+x", &mote]);
        Containerd::start_as(host, version, (&[&CRI[..], &SLOW[..]].concat(), ""), &folder)
    }

    /// Starts one in a network of its own, whose pods are at a bridge.
    pub fn start_with_network(host: &'a Host, version: Version) -> Containerd<'a> {
        let network = serde_json::json!({
            "cniVersion": "0.4.0", "name": "pods",
            "plugins": [{
                "type": "bridge", "bridge": "pods", "isGateway": true,
                "ipam": {
                    "type": "host-local", "dataDir": host.path("ipam"),
                    "ranges": [[{ "subnet": "10.89.0.0/24" }]],
                },
            }],
        });
        host.file("cni/10-pods.conflist", network.to_string());
        let network = format!(
            "  [plugins.\"io.containerd.grpc.v1.cri\".cni]\n    bin_dir = \"/usr/lib/cni\"\n    conf_dir = {:?}\n",
            host.path("cni"),
        );
        let mut command = Command::new("unshare");
        command.arg("--net").arg(program(version, "containerd"));
        let more = format!("{FOR_PODS}{network}");
        Containerd::start_by(host, (version, command), (&SLOW, &more), &programs())
    }

    /// Starts one that Kubernetes could drive; the handler `mote` is the shim.
    pub fn start_with_cri(host: &'a Host, version: Version) -> Containerd<'a> {
        Containerd::start_as(host, version, (&SLOW, FOR_PODS), &programs())
    }

    fn start_as(
        host: &'a Host,
        version: Version,
        config: (&[&str], &str),
        programs: &Path,
    ) -> Containerd<'a> {
        let command = Command::new(program(version, "containerd"));
        Containerd::start_by(host, (version, command), config, programs)
    }

    fn start_by(
        host: &'a Host,
        (version, mut command): (Version, Command),
        (disabled, more): (&[&str], &str),
        programs: &Path,
    ) -> Containerd<'a> {
        let disabled: Vec<String> = disabled.iter().map(|plugin| format!("{plugin:?}")).collect();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [{}]\n[grpc]\naddress = {:?}\n{more}",
            host.path("containerd/root"),
            host.path("containerd/state"),
            disabled.join(", "),
            socket(host),
        );
        let config = host.file("containerd/config.toml", config);
        let mut child = command
            .args(["--config", &config, "--log-level", "info"])
            .env("PATH", path(programs))
            .env("MOTE_ROOT", host.path("root"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("containerd is missing: tests/run installs it");
        let mut log = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut said = String::new();
        while !said.contains("successfully booted") {
            assert_ne!(log.read_line(&mut said).expect("read"), 0, "containerd ended: {said}");
        }
        // The log has to be read on, or containerd stops when the pipe is full.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Containerd { host, version, child }
    }

    /// The `ctr` command, pointed at it.
    pub fn ctr_command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(program(self.version, "ctr"));
        command.args([OsStr::new("--address"), socket(self.host).as_os_str()]).args(args);
        command.stdin(Stdio::null());
        command
    }

    /// Runs `ctr` to its end.
    pub fn ctr<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Out {
        run(&mut self.ctr_command(args))
    }

    /// Imports an image whose one file is a program, `/app.wasm`, beside a few folders.
    pub fn import(&self, name: &str, program: &[u8]) {
        self.import_in("default", name, (program, &[]), "");
    }

    /// Imports one whose program is to run as another user, such as `1000:1000`.
    pub fn import_for_user(&self, name: &str, program: &[u8], user: &str) {
        self.import_in("default", name, (program, &[]), user);
    }

    /// Imports one for Kubernetes' pods, whose entrypoint has arguments.
    pub fn import_for_pods(&self, name: &str, program: &[u8], args: &[&str]) {
        self.import_in("k8s.io", name, (program, args), "");
    }

    /// Imports an image as it is.
    pub fn import_image(&self, namespace: &str, name: &str, image: &Image) {
        let file = self.host.file("import.tar", image.archive(name));
        self.ctr(["--namespace", namespace, "images", "import", &file]).success();
    }

    /// Kubernetes' interface.
    pub fn cri(&self) -> Cri {
        Cri::at(socket(self.host))
    }

    fn import_in(
        &self,
        namespace: &str,
        name: &str,
        (program, args): (&[u8], &[&str]),
        user: &str,
    ) {
        let layer = tar(&[
            ("app.wasm", program),
            ("etc/hosts", b"127.0.0.1 localhost\n"),
            ("data/.keep", b""),
            ("check.wasm", &wat::parse_str(CHECK).expect("it is WebAssembly")),
        ]);
        let layer = Blob::new("application/vnd.oci.image.layer.v1.tar", layer);
        let entrypoint = [&["/app.wasm"], args].concat();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux",
            "config": { "Entrypoint": entrypoint, "Env": ["PATH=/"], "User": user },
            "rootfs": { "type": "layers", "diff_ids": [layer.digest()] },
        });
        let config = Blob::new("application/vnd.oci.image.config.v1+json", config.to_string());
        self.import_image(namespace, name, &Image { config, layers: vec![layer] });
    }

    /// `ctr run` of an image, under the shim.
    pub fn run(&self, flags: &[&str], image: &str, id: &str, args: &[&str]) -> Command {
        let run = ["run", "--runtime", "io.containerd.mote.v1"];
        self.ctr_command([&run[..], flags, &[image, id], args].concat())
    }

    /// Starts a container that goes on, and waits until it does.
    pub fn run_detached(&self, flags: &[&str], image: &str, id: &str) {
        run(&mut self.run(&[&["--detach"], flags].concat(), image, id, &[])).success();
    }

    /// The status of a task, as `ctr` lists it; empty if there is none.
    pub fn status(&self, id: &str) -> String {
        let listed = self.ctr(["tasks", "ls"]).success().stdout;
        let line = listed.lines().find(|line| line.split_whitespace().next() == Some(id));
        line.and_then(|line| line.split_whitespace().nth(2)).unwrap_or_default().to_owned()
    }

    /// Deletes a task, and returns the exit code that `ctr` tells of.
    pub fn delete(&self, id: &str) -> u32 {
        let deleted = self.ctr(["tasks", "delete", id]).success();
        let code = deleted.stderr.split_once("non-zero exit code ").map(|(_, code)| code);
        let digits = code.map(|code| code.trim_end().trim_end_matches('"'));
        digits.map_or(0, |code| code.parse().expect("a number"))
    }

    /// The process that a task is in.
    pub fn pid(&self, id: &str) -> u32 {
        let listed = self.ctr(["tasks", "ls"]).success().stdout;
        let line = listed.lines().find(|line| line.split_whitespace().next() == Some(id));
        let pid = line.and_then(|line| line.split_whitespace().nth(1)).expect("a task");
        pid.parse().expect("a number")
    }

    /// The folder in which a task's shim was started.
    pub fn bundle(&self, id: &str) -> PathBuf {
        self.host.path("containerd/state/io.containerd.runtime.v2.task/default").join(id)
    }

    /// Ends containerd alone, as when it is replaced by another.
    pub fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told");
        self.child.wait().expect("it ends");
        std::mem::forget(self);
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        for namespace in ["default", "k8s.io"] {
            let tasks = ["--namespace", namespace, "tasks"];
            let listed = self.ctr([&tasks[..], &["ls", "--quiet"]].concat()).stdout;
            for id in listed.lines() {
                self.ctr([&tasks[..], &["rm", "--force", id]].concat());
            }
        }
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

/// Another program of every image, which says that all is well.
const CHECK: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

/// What makes pods of containers, which most tests have no use for.
const CRI: [&str; 3] =
    ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"];

/// What takes long to start, and is of no use here.
const SLOW: [&str; 3] = [
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
];

/// A kubelet may not raise scores, nor load profiles, where tests run; the image of pods' first
/// containers is the test's own.
const FOR_PODS: &str = r#"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "example.test/pause:1"
  disable_tcp_service = true
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.mote]
    runtime_type = "io.containerd.mote.v1"
    pod_annotations = ["io.mote.*"]
    container_annotations = ["io.mote.*"]
"#;

fn socket(host: &Host) -> PathBuf {
    host.path("containerd/containerd.sock")
}

/// Debian's own are on the path; a newer one is beside the other tools, under its own name.
fn program(version: Version, name: &str) -> String {
    match version {
        Version::One => name.to_owned(),
        Version::OneSeven => format!("{name}1.7"),
        Version::Two => format!("{name}2"),
    }
}

const SHIM: &str = "containerd-shim-mote-v1";

/// Where mote and the shim are built.
fn programs() -> PathBuf {
    let mote = Path::new(env!("CARGO_BIN_EXE_mote"));
    let folder = mote.parent().expect("it is in a folder");
    assert!(folder.join(SHIM).exists(), "the shim is missing: cargo build --workspace");
    folder.to_owned()
}

/// The path of programs, with the shim's folder before it.
fn path(programs: &Path) -> std::ffi::OsString {
    let usual = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(programs.to_owned()).chain(std::env::split_paths(&usual));
    std::env::join_paths(all).expect("a path")
}
