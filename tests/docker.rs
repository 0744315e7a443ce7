//! The real `docker` command, and compose, drive mote's daemon.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use crate::harness::{Auth, Daemon, DockerRegistry, Host, guest};

/// Says `ready` and sleeps for an hour; has functions beside its main program.
pub const SERVICE: &str = include_str!("../examples/compose/service.wat");
/// Says `busy`, and then computes for ever.
const BUSY: &str = include_str!("../examples/compose/busy.wat");

fn push(registry: &DockerRegistry, name: &str) -> String {
    let path = guest(name);
    let (folder, file) = path.rsplit_once('/').expect("a path");
    let layer = format!("{file}:application/wasm");
    registry.oras_push(folder, &format!("{name}:1"), None, &[layer.as_str()])
}

fn field(daemon: &Daemon<'_>, container: &str, format: &str) -> String {
    daemon.docker(["inspect", "-f", format, container]).success().stdout.trim().to_owned()
}

#[test]
fn pull_run_and_look_at_images() {
    let (host, registry) = (Host::new(), DockerRegistry::start(Auth::Open));
    let daemon = Daemon::start(&host);
    let hello = push(&registry, "hello.p1");
    assert!(daemon.docker(["pull", &hello]).success().stdout.contains("Digest: sha256:"));
    let listed = daemon.docker(["images", "--format", "{{.Repository}}:{{.Tag}}"]).success();
    assert_eq!(listed.stdout.trim(), hello);
    let ran = daemon.docker(["run", "--name", "first", &hello, "a", "b"]).success();
    assert_eq!(ran.stdout, "hello from hello.p1.wasm a b\n");
    assert_eq!(daemon.docker(["logs", "first"]).success().stdout, ran.stdout);
    // What is used cannot be removed, and what is not, can.
    daemon.docker(["rmi", &hello]).fails(1, &["uses it"]);
    daemon.docker(["rm", "first"]).success();
    daemon.docker(["tag", &hello, "mine:2"]).success();
    assert!(daemon.docker(["history", "mine:2"]).success().stdout.contains("application/wasm"));
    let archive = host.path("mine.tar").display().to_string();
    daemon.docker(["save", "-o", &archive, "mine:2"]).success();
    daemon.docker(["rmi", &hello, "mine:2"]).success();
    assert_eq!(daemon.docker(["images", "-q"]).success().stdout, "");
    let loaded = daemon.docker(["load", "-i", &archive]).success();
    assert_eq!(loaded.stdout, "Loaded image: mine:2\n");
    let about = daemon.docker(["image", "inspect", "-f", "{{.RepoTags}}", "mine:2"]).success();
    assert_eq!(about.stdout, "[mine:2]\n");
    daemon.docker(["run", "--rm", "mine:2"]).success();
    assert_eq!(daemon.docker(["ps", "-aq"]).success().stdout, "");
    daemon.docker(["pull", &registry.image("none:1")]).fails(1, &["has no image"]);
    daemon.docker(["image", "prune", "-af"]).success();
    assert_eq!(daemon.docker(["images", "-q"]).success().stdout, "");
}

#[test]
fn a_container_lives_through_every_verb() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let daemon = Daemon::start(&host);
    let id = daemon.docker(["run", "-d", "--name", "web", "service:1"]).success().stdout;
    let status = |name: &str| field(&daemon, name, "{{.State.Status}}");
    assert_eq!(daemon.docker(["ps", "-q", "--no-trunc"]).success().stdout, id);
    daemon.docker(["pause", "web"]).success();
    assert_eq!(status("web"), "paused");
    daemon.docker(["exec", "web", "check"]).fails(1, &["is paused"]);
    daemon.docker(["unpause", "web"]).success();
    assert_eq!(status("web"), "running");
    daemon
        .docker(["update", "--memory", "32m", "--memory-swap", "64m", "--cpus", "0.5", "web"])
        .success();
    assert_eq!(
        field(&daemon, "web", "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}"),
        "33554432 500000000"
    );
    let stats =
        daemon.docker(["stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}", "web"]);
    assert_eq!(stats.success().stdout, "web 64KiB / 32MiB\n");
    daemon.docker(["exec", "web", "check"]).success();
    assert_eq!(daemon.docker(["exec", "web", "add(2,3)"]).success().stdout, "5\n");
    daemon.docker(["exec", "web", "broken"]).fails(134, &["unreachable"]);
    daemon
        .docker(["exec", "web", "nothing"])
        .fails(1, &["No such function or program: nothing", "check"]);
    daemon.docker(["rename", "web", "site"]).success();
    daemon.docker(["inspect", "web"]).fails(1, &["No such"]);
    daemon.docker(["restart", "site"]).success();
    daemon.docker(["top", "site"]).fails(1, &["has no processes"]);
    daemon.docker(["rm", "site"]).fails(1, &["container is running"]);
    daemon.docker(["stop", "site"]).success();
    assert_eq!(field(&daemon, "site", "{{.State.Status}} {{.State.ExitCode}}"), "exited 143");
    daemon.docker(["start", "site"]).success();
    daemon.docker(["kill", "site"]).success();
    assert_eq!(daemon.docker(["wait", "site"]).success().stdout, "137\n");
    assert_eq!(daemon.docker(["logs", "site"]).success().stdout, "ready\n".repeat(3));
    assert_eq!(daemon.docker(["logs", "-n", "1", "site"]).success().stdout, "ready\n");
    daemon.docker(["rm", "site"]).success();
    assert_eq!(daemon.docker(["ps", "-aq"]).success().stdout, "");
    assert_eq!(host.left("root/logs"), Vec::<String>::new());
}

#[test]
fn input_and_output_are_passed_through() {
    let host = Host::new();
    host.cli(["import", &guest("cat.p1"), "cat:1"]).success();
    host.cli(["import", &guest("exit.p1"), "exit:1"]).success();
    let daemon = Daemon::start(&host);
    let mut command = daemon.docker_command(["run", "-i", "--rm", "cat:1"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("docker");
    // More than any buffer on the way holds.
    let text: String = (0..200_000).map(|line| format!("line {line}\n")).collect();
    let mut stdin = child.stdin.take().expect("a pipe");
    let written = text.clone();
    let writer = std::thread::spawn(move || stdin.write_all(written.as_bytes()));
    let mut echoed = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut echoed).expect("read");
    writer.join().expect("joined").expect("written");
    assert!(child.wait().expect("ended").success());
    assert!(echoed == text, "{} bytes of {}", echoed.len(), text.len());
    assert_eq!(daemon.docker(["run", "--rm", "exit:1", "42"]).code, 42);
    // A terminal in raw mode is read line by line, shows what is typed, and can be left.
    let command = "docker run -it --name tty cat:1";
    let mut script = daemon.docker_command(["version"]);
    let mut script = {
        let mut command_line = Command::new("script");
        command_line.args(["-qec", command, "/dev/null"]);
        for (key, value) in script.get_envs() {
            if let Some(value) = value {
                command_line.env(key, value);
            }
        }
        script = command_line;
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script")
    };
    let (mut keys, mut seen) = (
        script.stdin.take().expect("a pipe"),
        BufReader::new(script.stdout.take().expect("a pipe")),
    );
    keys.write_all(b"abx\x7f\r").expect("typed");
    let mut lines = String::new();
    while lines.matches("ab\r\n").count() + lines.matches("\x08 \x08\r\n").count() < 2 {
        assert_ne!(seen.read_line(&mut lines).expect("read"), 0, "{lines:?}");
    }
    keys.write_all(b"\x10\x11").expect("typed");
    script.wait().expect("it is left");
    assert_eq!(field(&daemon, "tty", "{{.State.Status}}"), "running");
    daemon.docker(["rm", "-f", "tty"]).success();
    // What is detached can be attached to, and fed.
    daemon.docker(["run", "-d", "-i", "--name", "cat", "cat:1"]).success();
    let mut command = daemon.docker_command(["attach", "cat"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("docker");
    child.stdin.as_mut().expect("a pipe").write_all(b"hello\n").expect("written");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("read");
    assert_eq!(line, "hello\n");
    daemon.docker(["rm", "-f", "cat"]).success();
    child.wait().expect("it ends with the container");
}

#[test]
fn logs_are_followed_and_events_told() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let daemon = Daemon::start(&host);
    let mut listener = daemon
        .docker_command(["events", "--format", "{{.Action}} {{.Actor.Attributes.name}}"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("docker");
    let mut events = BufReader::new(listener.stdout.take().expect("a pipe")).lines();
    daemon.docker(["create", "--name", "web", "service:1"]).success();
    // The listener may come later than the first container: what is told from now on it hears.
    loop {
        daemon.docker(["rename", "web", "other"]).success();
        daemon.docker(["rename", "other", "web"]).success();
        if events.next().expect("an event").expect("text").starts_with("rename") {
            break;
        }
    }
    daemon.docker(["start", "web"]).success();
    let mut follow = daemon
        .docker_command(["logs", "-f", "-t", "web"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("docker");
    let mut followed = BufReader::new(follow.stdout.take().expect("a pipe")).lines();
    let line = followed.next().expect("a line").expect("text");
    assert!(line.ends_with("Z ready"), "{line}");
    daemon.docker(["kill", "web"]).success();
    assert!(followed.next().is_none(), "it ends with the container");
    follow.wait().expect("ended");
    let mut told = Vec::new();
    for line in events.map(|line| line.expect("text")).filter(|line| !line.starts_with("rename")) {
        let end = line.starts_with("die");
        told.push(line);
        if end {
            break;
        }
    }
    listener.kill().expect("ended");
    listener.wait().expect("ended");
    assert_eq!(told, ["start web", "kill web", "die web"]);
}

#[test]
fn files_are_copied_in_and_out() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let daemon = Daemon::start(&host);
    let data = host.folder("data");
    let file = host.file("note.txt", "a note");
    let volume = format!("{data}:/data");
    daemon
        .docker([
            "run",
            "-d",
            "--name",
            "web",
            "-v",
            &volume,
            "-v",
            "keep:/keep",
            "--tmpfs",
            "/tmp",
            "service:1",
        ])
        .success();
    daemon.docker(["cp", &file, "web:/data/"]).success();
    assert_eq!(host.read("data/note.txt"), "a note");
    daemon.docker(["cp", &file, "web:/tmp/renamed.txt"]).success();
    let out = host.path("out.txt").display().to_string();
    daemon.docker(["cp", "web:/tmp/renamed.txt", &out]).success();
    assert_eq!(host.read("out.txt"), "a note");
    daemon.docker(["cp", "web:/etc/passwd", &out]).fails(1, &["in no volume"]);
    // A named volume outlives its container.
    daemon.docker(["cp", &file, "web:/keep/note.txt"]).success();
    daemon.docker(["volume", "rm", "keep"]).fails(1, &["in use by web"]);
    daemon.docker(["rm", "-f", "web"]).success();
    assert_eq!(host.read("root/volumes/keep/_data/note.txt"), "a note");
    let volumes = daemon.docker(["volume", "ls", "-q"]).success();
    assert_eq!(volumes.stdout, "keep\n");
    // What somebody named is pruned only if that is asked for.
    daemon.docker(["volume", "create"]).success();
    daemon.docker(["system", "prune", "-f", "--volumes"]).success();
    assert_eq!(daemon.docker(["volume", "ls", "-q"]).success().stdout, "keep\n");
    daemon.docker(["volume", "rm", "keep"]).success();
}

#[test]
fn what_a_guest_cannot_have_is_refused_by_name() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let daemon = Daemon::start(&host);
    for (flags, says) in [
        (&["--privileged"][..], "--privileged"),
        (&["--cap-add", "NET_ADMIN"], "--cap-add"),
        (&["--pid", "host"], "--pid"),
        (&["--user", "me"], "not a user"),
        (&["--security-opt", "seccomp=unconfined"], "seccomp=unconfined"),
        (&["--label", "io.mote.isolation=shared", "--user", "1000"], "--user"),
        (&["--network", "other"], "network `other`"),
        (&["--memory", "999g"], "memory"),
        (&["--label", "io.mote.memroy=1m"], "io.mote.memroy"),
    ] {
        let args = [&["run", "-d"], flags, &["service:1"]].concat();
        daemon.docker(args).fails(125, &[says]);
    }
    daemon.docker(["build", "-"]).fails(1, &[]);
    assert_eq!(daemon.docker(["ps", "-aq"]).success().stdout, "", "nothing was made");
}

#[test]
fn the_daemon_tells_of_itself() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let daemon = Daemon::start(&host);
    let version = daemon.docker(["version", "-f", "{{.Server.APIVersion}}"]).success();
    assert_eq!(version.stdout, "1.45\n");
    daemon.docker(["run", "-d", "service:1"]).success();
    let info = daemon.docker(["info", "-f", "{{.Driver}} {{.ContainersRunning}} {{.Images}}"]);
    assert_eq!(info.success().stdout, "mote 1 1\n");
    let usage = daemon.docker(["system", "df", "--format", "{{.Type}} {{.TotalCount}}"]).success();
    assert!(usage.stdout.contains("Containers 1"), "{}", usage.stdout);
    assert!(usage.stdout.contains("Images 1"), "{}", usage.stdout);
}

#[test]
fn compose_brings_three_services_up_and_down() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    host.import("busy:1", BUSY);
    let daemon = Daemon::start(&host);
    let file =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/compose/compose.yaml").to_owned();
    let compose =
        |args: &[&str]| daemon.docker([&["compose", "-p", "shop", "-f", &file], args].concat());
    compose(&["up", "-d"]).success();
    let names = daemon.docker(["ps", "--format", "{{.Names}}"]).success().stdout;
    let mut names: Vec<&str> = names.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["shop-store-1", "shop-web-1", "shop-worker-1"]);
    assert_eq!(field(&daemon, "shop-web-1", "{{.State.Health.Status}}"), "healthy");
    assert!(compose(&["logs", "web"]).success().stdout.contains("ready"));
    compose(&["exec", "web", "check"]).success();
    compose(&["restart", "store"]).success();
    assert!(compose(&["ps"]).success().stdout.contains("shop-worker-1"));
    compose(&["down", "-v"]).success();
    assert_eq!(daemon.docker(["ps", "-aq"]).success().stdout, "");
    assert_eq!(daemon.docker(["volume", "ls", "-q"]).success().stdout, "");
}
