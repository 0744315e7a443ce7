//! What stands behind the sandbox: what hosts give up, processes of guests, and the fields of a security policy.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Stdio};

use crate::docker::SERVICE;
use crate::harness::{Daemon, Host, guest};

/// A line of `/proc/PID/task/TID/status` in every thread of a process.
fn of_all_threads(pid: u32, line: &str) -> BTreeSet<String> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    let status = |thread: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(thread.ok()?.path().join("status")).ok()
    };
    threads
        .filter_map(status)
        .filter_map(|text| {
            let value = text.lines().find_map(|text| text.strip_prefix(line))?;
            Some(value.trim().to_owned())
        })
        .collect()
}

/// Capabilities that no host of guests keeps: CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_SYS_MODULE, CAP_NET_ADMIN,
/// CAP_NET_RAW, CAP_SETUID (capabilities(7)).
const GIVEN_UP: u64 = 1 << 21 | 1 << 19 | 1 << 16 | 1 << 12 | 1 << 13 | 1 << 7;

fn is_hardened(pid: u32) {
    assert_eq!(of_all_threads(pid, "NoNewPrivs:"), ["1".to_owned()].into(), "new privileges");
    assert_eq!(of_all_threads(pid, "Seccomp:"), ["2".to_owned()].into(), "a filter");
    let sets = ["CapEff:", "CapPrm:"].into_iter().flat_map(|set| of_all_threads(pid, set));
    let bounding = of_all_threads(pid, "CapBnd:");
    for capabilities in sets.chain(bounding) {
        let capabilities = u64::from_str_radix(&capabilities, 16).expect("a number");
        assert_eq!(capabilities & GIVEN_UP, 0, "{capabilities:x}");
    }
}

fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let text = text.unwrap_or_default();
    text.split_whitespace().map(|pid| pid.parse().expect("a number")).collect()
}

/// The files that a process has open.
fn open_files(pid: u32) -> Vec<String> {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its files");
    let paths = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    paths.map(|path| path.display().to_string()).collect()
}

/// A process of a guest has its link, its streams and what was granted, and nothing that whoever started mote had
/// open.
#[test]
fn what_others_have_open_does_not_come_along() {
    let host = Host::new();
    let secret = std::fs::File::open(host.file("secret", "x")).expect("open");
    // As a shell leaves a file open for what it starts.
    rustix::io::fcntl_setfd(&secret, rustix::io::FdFlags::empty()).expect("kept open");
    let child = running(&host, &["--isolation", "process"]);
    let worker = children(child.id())[0];
    let names = open_files(worker);
    assert!(!names.iter().any(|name| name.ends_with("/secret")), "{names:?}");
    end(child);
}

/// The process of `mote run` keeps nothing open that whoever started it had.
#[test]
fn what_others_have_open_is_closed() {
    let host = Host::new();
    let secret = std::fs::File::open(host.file("secret", "x")).expect("open");
    rustix::io::fcntl_setfd(&secret, rustix::io::FdFlags::empty()).expect("kept open");
    let child = running(&host, &[]);
    let names = open_files(child.id());
    assert!(!names.iter().any(|name| name.ends_with("/secret")), "{names:?}");
    end(child);
}

/// A guest that runs until its input ends, and has said so.
fn running(host: &Host, flags: &[&str]) -> Child {
    let cat = guest("cat.p1");
    let args = [&["run", "-i"], flags, &[cat.as_str()]].concat();
    let mut command = host.command(args);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut word = [0; 3];
    std::io::Write::write_all(child.stdin.as_mut().expect("a pipe"), b"hi\n").expect("it reads");
    std::io::Read::read_exact(child.stdout.as_mut().expect("a pipe"), &mut word).expect("it runs");
    child
}

fn end(mut child: Child) {
    drop(child.stdin.take());
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn every_host_of_guests_gives_up_what_it_does_not_need() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let here = running(&host, &["--tmpfs", "/t"]);
    is_hardened(here.id());
    end(here);
    let daemon = Daemon::start(&host);
    daemon.docker(["run", "-d", "service:1"]).success();
    is_hardened(daemon.pid());
}

#[test]
fn a_guests_process_has_what_it_needs_and_no_more() {
    let host = Host::new();
    let grant = format!("{}:/d", host.folder("data"));
    let child = running(&host, &["--isolation", "process=strict", "-v", &grant]);
    let workers = children(child.id());
    assert_eq!(workers.len(), 1, "one process for one guest");
    is_hardened(child.id());
    is_hardened(workers[0]);
    let name = std::fs::read_to_string(format!("/proc/{}/comm", workers[0]));
    assert_eq!(name.expect("it runs"), "mote-guest\n");
    let capabilities = of_all_threads(workers[0], "CapEff:");
    assert_eq!(capabilities, ["000000000000000a".to_owned()].into(), "DAC_OVERRIDE and FOWNER");
    let namespace = |pid: u32, name: &str| std::fs::read_link(format!("/proc/{pid}/ns/{name}"));
    for name in ["net", "ipc", "uts"] {
        let (own, hosts) = (namespace(workers[0], name), namespace(child.id(), name));
        assert_ne!(own.expect("a namespace"), hosts.expect("a namespace"), "{name}");
    }
    let cgroup = std::fs::read_to_string(format!("/proc/{}/cgroup", workers[0])).expect("read");
    assert!(cgroup.contains(&format!("/mote-{}", workers[0])), "{cgroup}");
    let line = cgroup.lines().find(|line| line.contains(":pids:") || line.starts_with("0::"));
    let path = line.and_then(|line| line.rsplit(':').next()).expect("a place");
    let root = match cgroup.contains(":pids:") {
        true => "/sys/fs/cgroup/pids",
        false => "/sys/fs/cgroup",
    };
    let folder = format!("{root}{path}");
    assert!(Path::new(&folder).is_dir(), "{folder}");
    end(child);
    assert!(!Path::new(&folder).exists(), "its cgroup goes with it");
}

#[test]
fn a_guest_acts_as_the_user_that_it_is_given() {
    let host = Host::new();
    let data = host.folder("data");
    std::os::unix::fs::chown(&data, Some(12_345), Some(12_346)).expect("given away");
    let grant = format!("{data}:/d");
    for standard in ["p1", "p2"] {
        let write = guest(&format!("write.{standard}"));
        let user = ["run", "--user", "12345:12346", "-v", &grant, &write, "/d/new", "5"];
        assert_eq!(host.cli(user).success().stdout, "wrote 5\n");
        let made = host.path("data/new").metadata().expect("it is there");
        assert_eq!((made.uid(), made.gid()), (12_345, 12_346));
        std::fs::remove_file(host.path("data/new")).expect("removed");
        let scratch = ["run", "--user", "54321", "--tmpfs", "/t", &write, "/t/new", "5"];
        assert_eq!(host.cli(scratch).success().stdout, "wrote 5\n", "its own space is its own");
        let other = ["run", "--user", "54321", "-v", &grant, &write, "/d/new", "5"];
        assert!(host.cli(other).success().stdout.starts_with("cannot open"), "not its folder");
    }
}

#[test]
fn capabilities_that_are_dropped_are_not_there() {
    let host = Host::new();
    let data = host.folder("data");
    std::os::unix::fs::chown(&data, Some(12_345), Some(12_345)).expect("given away");
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).expect("closed");
    let (grant, write) = (format!("{data}:/d"), guest("write.p1"));
    let run = |flags: &[&str]| {
        let rest = ["-v", &grant, &write, "/d/new", "5"];
        host.cli([&["run"], flags, &rest].concat()).success().stdout
    };
    assert_eq!(run(&["--isolation", "process"]), "wrote 5\n", "root may");
    std::fs::remove_file(host.path("data/new")).expect("removed");
    assert!(run(&["--cap-drop", "dac_override"]).starts_with("cannot open"));
    assert!(run(&["--cap-drop", "ALL"]).starts_with("cannot open"));
}

#[test]
fn a_profile_of_the_operators_is_held_beside_motes_own() {
    let host = Host::new();
    let grant = format!("{}:/d", host.folder("data"));
    let profile = host.file(
        "profile.json",
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["openat","openat2"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}"#,
    );
    let option = format!("seccomp={profile}");
    let write = guest("write.p1");
    let args = ["run", "--security-opt", &option, "-v", &grant, &write, "/d/new", "5"];
    assert!(host.cli(args).success().stdout.starts_with("cannot open"));
    assert!(!host.path("data/new").exists());
}

#[test]
fn what_cannot_be_honoured_is_an_error() {
    let host = Host::new();
    let hello = guest("hello.p1");
    let bad = host.file("bad.json", "{}");
    let bad = format!("seccomp={bad}");
    for (flags, says) in [
        (&["--cap-add", "NET_ADMIN"][..], "--cap-add NET_ADMIN would do nothing"),
        (&["--isolation", "shared", "--user", "1000"], "--user needs a process"),
        (&["--security-opt", "seccomp=unconfined"], "mote's own filter stays"),
        (&["--security-opt", "seccomp=/nowhere"], "cannot read the seccomp profile"),
        (&["--security-opt", &bad], "the seccomp profile cannot be honoured"),
        (&["--security-opt", "apparmor=mine"], "this kernel has no AppArmor"),
        (&["--security-opt", "label=type:x"], "no SELinux labels"),
        (&["--user", "somebody"], "in numbers"),
        (&["--isolation", "some"], "shared, process and process=strict"),
    ] {
        host.cli([&["run"], flags, &[hello.as_str()]].concat()).fails(125, &[says]);
    }
    let always = ["run", "--security-opt", "no-new-privileges", &hello];
    assert_eq!(host.cli(always).success().stdout, "hello from hello.p1.wasm\n");
    let config = host.file("config.toml", "[ceiling]\nisolation = \"process\"\n");
    let below = ["--config", &config, "run", "--isolation", "shared", &hello];
    host.cli(below).fails(125, &["no less than --isolation process"]);
    assert_eq!(
        host.cli(["--config", &config, "run", &hello]).success().stdout,
        "hello from hello.p1.wasm\n"
    );
}

/// All that a container can do is the same in a process of its own: its guests see no difference.
#[test]
fn the_daemons_guests_live_in_processes_of_their_own() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let daemon = Daemon::start(&host);
    let flags = ["--user", "1000:1000", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"];
    let args = [&["run", "-d", "--name", "web", "-m", "16m"], &flags[..], &["service:1"]].concat();
    daemon.docker(args).success();
    let mut logs = daemon.docker_command(["logs", "-f", "web"]);
    let mut logs = logs.stdout(Stdio::piped()).spawn().expect("docker starts");
    let mut line = String::new();
    let output = logs.stdout.take().expect("a pipe");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).expect("a line");
    assert_eq!(line, "ready\n");
    let show = ["inspect", "-f", "{{.Config.User}} {{.HostConfig.Isolation}}", "web"];
    assert_eq!(daemon.docker(show).success().stdout, "1000:1000 process\n");
    assert!(children(daemon.pid()).iter().any(|spawner| !children(*spawner).is_empty()));
    assert_eq!(host.cli(["exec", "web", "add", "2", "3"]).success().stdout, "5\n");
    host.cli(["pause", "web"]).success();
    host.cli(["unpause", "web"]).success();
    let stats = host.cli(["stats", "--format", "{{.Name}} {{.MemoryLimit}}", "web"]).success();
    assert_eq!(stats.stdout, "web 16777216\n");
    let score = host.cli(["security", "--format", "{{.Score}}", "web"]).success().stdout;
    assert!(score.trim().parse::<u32>().expect("a number") > 90, "{score}");
    daemon.docker(["stop", "-t", "1", "web"]).success();
    logs.wait().expect("it ends with the container");
    assert_eq!(host.cli(["wait", "web"]).success().stdout, "143\n");
    // The process goes with its guest.
    while children(daemon.pid()).iter().any(|spawner| !children(*spawner).is_empty()) {
        std::thread::yield_now();
    }
    daemon.docker(["start", "web"]).success();
    daemon.docker(["rm", "-f", "web"]).success();
    assert_eq!(daemon.docker(["ps", "-aq"]).success().stdout, "");
}

#[test]
fn a_score_is_a_gate_for_ci() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let score = |args: &[&str]| {
        let args = [&["security", "--format", "{{.Score}}"], args].concat();
        host.cli(args).success().stdout.trim().parse::<u32>().expect("a number")
    };
    let (shared, apart) = (score(&["service:1"]), score(&["--isolation", "process", "service:1"]));
    assert!(shared + 20 < apart, "{shared} and {apart}");
    let table = host.cli(["security", "service:1"]).success().stdout;
    for says in
        ["landlock", "harden it: --isolation process", "Security score: ", "Isolation level"]
    {
        assert!(table.contains(says), "{table}");
    }
    let gate = |threshold: u32| {
        host.cli(["security", "--threshold", &threshold.to_string(), "service:1"]).code
    };
    assert_eq!((gate(shared), gate(shared + 1)), (0, 1));
    host.cli(["security", "nothing:1"]).fails(127, &["no image nothing:1"]);
    let config = host.file("config.toml", "[security.weights]\nown-process = 0\nlandlock = 0\n");
    let weighted = ["--config", &config, "security", "--format", "{{.Score}}", "service:1"];
    let weighted = host.cli(weighted).success().stdout;
    assert!(weighted.trim().parse::<u32>().expect("a number") > shared, "{weighted}");
    let wrong = host.file("wrong.toml", "[security.weights]\nmagic = 1\n");
    host.cli(["--config", &wrong, "security"]).fails(125, &["magic"]);
}

/// What a person is told is the same, wherever a guest runs.
#[test]
fn refusals_and_hints_are_the_same_in_every_isolation() {
    let host = Host::new();
    let (hello, connect) = (guest("hello.p1"), guest("connect.p2"));
    let foreign = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../modules/attack/wat/import_what_is_not_there.wat"
    );
    for args in [
        &[connect.as_str(), "127.0.0.1:9"][..],
        &["--allow-net", "tcp://127.0.0.1:9", &hello],
        &["-v", "/nowhere/at/all:/d", &hello],
        &["-w", "/nowhere", &hello],
        &["-m", "64k", &hello],
        &[foreign],
    ] {
        let run = |isolation| {
            let out = host.cli([&["run", "--isolation", isolation], args].concat());
            (out.code, out.stdout, out.stderr)
        };
        let (shared, process) = (run("shared"), run("process"));
        assert_eq!(shared, process);
        assert!(shared.2.contains("hint: ") || shared.2.contains("allow it with"), "{shared:?}");
    }
}

#[test]
fn a_plain_file_has_a_score() {
    let host = Host::new();
    let hello = guest("hello.p1");
    assert!(host.cli(["security", &hello]).success().stdout.contains("Security score"));
    host.cli(["security", "./nowhere.wasm"]).fails(127, &["no file ./nowhere.wasm"]);
}

/// What every guest's process does cannot be forbidden: it is said, and nothing hangs.
#[test]
fn a_profile_under_which_no_guest_could_run_is_refused() {
    let host = Host::new();
    for calls in [r#""write""#, r#""timer_create""#, r#""timer_settime""#, r#""clone","clone3""#] {
        let profile = format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":[{calls}],"action":"SCMP_ACT_ERRNO"}}]}}"#
        );
        let option = format!("seccomp={}", host.file("profile.json", profile));
        let out = host.cli(["run", "--security-opt", &option, &guest("hello.p1")]);
        out.fails(125, &["the seccomp profile cannot be honoured: it forbids one of"]);
    }
}
