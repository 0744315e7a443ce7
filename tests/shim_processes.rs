//! Processes under the shim: native containers, and guests that have a process of their own.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use crate::harness::{native_program, run};
use crate::shim::{assemble, under_each, wasm};

/// A guest that takes as much memory as it gets, and writes to all of it.
const FILL: &str = r#"(module (memory (export "memory") 1) (func (export "_start") (local $at i32)
    (loop $next
        (br_if 1 (i32.eq (memory.grow (i32.const 16)) (i32.const -1)))
        (loop $page
            (i32.store (local.get $at) (i32.const 1))
            (local.set $at (i32.add (local.get $at) (i32.const 4096)))
            (br_if $page (i32.lt_u (local.get $at)
                (i32.mul (i32.sub (memory.size) (i32.const 1)) (i32.const 65536)))))
        (br $next))))"#;

#[test]
fn a_guest_that_the_kernel_ends_has_run_out_of_memory() {
    under_each(|containerd| {
        containerd.import_for_user("local/fill:1", &assemble(FILL), "1000:1000");
        let pod = format!("mote-oom-{}", std::process::id());
        let root = std::path::Path::new("/sys/fs/cgroup");
        let is_v2 = root.join("cgroup.controllers").exists();
        let (folder, limit) = match is_v2 {
            true => (root.join(&pod), "memory.max"),
            false => (root.join("memory").join(&pod), "memory.limit_in_bytes"),
        };
        std::fs::create_dir_all(&folder).expect("a cgroup");
        if is_v2 {
            std::fs::write(folder.join("cgroup.subtree_control"), "+memory").expect("told");
        }
        std::fs::write(folder.join(limit), "67108864").expect("a limit");
        let path = format!("/{pod}/one");
        let flags = ["--rm", "--cgroup", &path, "--annotation", "io.mote.memory=200m"];
        run(&mut containerd.run(&flags, "local/fill:1", "one", &[]))
            .fails(137, &["the kernel ended its process"]);
        // The pod's process goes when it has told containerd all.
        while folder.join("mote-one").exists() {}
        for name in ["cpu", "cpuacct", "memory", "pids", "cpuset", "."] {
            let _ = std::fs::remove_dir(root.join(name).join(&pod));
        }
    });
}

/// The value of a line of `/proc/PID/status`.
pub fn status_of(pid: u32, name: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.expect("a line").split_whitespace().next().expect("a value").to_owned()
}

#[test]
fn another_user_has_a_process_of_its_own_and_that_users_rights() {
    under_each(|containerd| {
        for (name, program) in [("write", "write.p2"), ("read", "read.p1"), ("sleep", "sleep.p1")] {
            containerd.import_for_user(&format!("local/{name}:1"), &wasm(program), "1000:1001");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let is_for = |name: &str, mode| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(folder.path().join(name), mode).expect("changed");
        };
        is_for("", 0o777);
        std::fs::write(folder.path().join("secret"), "root's").expect("written");
        is_for("secret", 0o600);
        let source = folder.path().display();
        let volume = format!("type=bind,src={source},dst=/data,options=rbind:rw");
        let as_user = |image: &str, args: &[&str]| {
            run(&mut containerd.run(&["--rm", "--mount", &volume], image, "u", args))
        };
        let wrote = as_user("local/write:1", &["/app.wasm", "/data/mine", "1000"]).success();
        assert_eq!(wrote.stdout, "wrote 1000\n");
        let mine = std::fs::metadata(folder.path().join("mine")).expect("a file");
        use std::os::unix::fs::MetadataExt;
        assert_eq!((mine.uid(), mine.gid(), mine.len()), (1000, 1001, 1000));
        let secret = as_user("local/read:1", &["/app.wasm", "/data/secret"]);
        assert!(!secret.stdout.contains("root's"), "{secret:?}");
        assert!(secret.stdout.contains("PermissionDenied"), "{secret:?}");
        // Whoever runs beside it is that user as well, unless told otherwise.
        run(&mut containerd.run(&["--detach"], "local/sleep:1", "s", &["/app.wasm", "100000"]))
            .success();
        let pid = containerd.pid("s");
        assert_eq!(status_of(pid, "Uid"), "1000");
        assert_eq!(status_of(pid, "Groups"), "1001");
        assert_eq!(status_of(pid, "NoNewPrivs"), "1");
        assert_eq!(u64::from_str_radix(&status_of(pid, "CapPrm"), 16), Ok(0));
        let exec = ["tasks", "exec", "--exec-id", "x", "s", "/check.wasm"];
        assert_eq!(containerd.ctr(exec).success().code, 0);
        let shim: i32 = status_of(pid, "PPid").parse().expect("a number");
        let shim = rustix::process::Pid::from_raw(shim).expect("a process");
        rustix::process::kill_process(shim, rustix::process::Signal::KILL).expect("killed");
        while std::path::Path::new(&format!("/proc/{pid}")).exists() {}
        while containerd.bundle("s").exists() {}
        containerd.ctr(["tasks", "delete", "--force", "s"]);
        containerd.ctr(["containers", "rm", "s"]).success();
    });
}

/// A guest that makes a directory, and ends with the error's number (`errno` of preview 1).
const MAKE_DIRECTORY: &str = r#"(module
    (import "wasi_snapshot_preview1" "path_create_directory"
        (func $make (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1) (data (i32.const 0) "data/made")
    (func (export "_start") (call $exit (call $make (i32.const 3) (i32.const 0) (i32.const 9)))))"#;

#[test]
fn a_seccomp_profile_is_for_guests_as_well() {
    under_each(|containerd| {
        containerd.import("local/make:1", &assemble(MAKE_DIRECTORY));
        containerd.import("local/sleep:1", &wasm("sleep.p1"));
        let make = |flags: &[&str]| {
            let flags = [&["--rm"], flags].concat();
            run(&mut containerd.run(&flags, "local/make:1", "m", &[])).code
        };
        assert_eq!(make(&[]), 0);
        assert_eq!(make(&["--seccomp"]), 0, "containerd's own profile");
        let folder = tempfile::tempdir().expect("a folder");
        let profile = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            path.display().to_string()
        };
        let refused = profile(
            "refuse.json",
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
                {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}"#,
        );
        let refused = ["--seccomp", "--seccomp-profile", &refused];
        const EPERM: i32 = 63;
        assert_eq!(make(&refused), EPERM);
        let killed = profile(
            "kill.json",
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
                {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_KILL_PROCESS"}]}"#,
        );
        let killed = ["--rm", "--seccomp", "--seccomp-profile", &killed];
        run(&mut containerd.run(&killed, "local/make:1", "m", &[]))
            .fails(134, &["seccomp profile kills"]);
        let wrong = profile("wrong.json", r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#);
        let wrong = ["--rm", "--seccomp", "--seccomp-profile", &wrong];
        run(&mut containerd.run(&wrong, "local/make:1", "m", &[]))
            .fails(1, &["the seccomp profile cannot be honoured"]);
        containerd.ctr(["containers", "rm", "m"]);
        let flags = [&["--detach"], &refused[..]].concat();
        run(&mut containerd.run(&flags, "local/sleep:1", "s", &["/app.wasm", "100000"])).success();
        assert_eq!(status_of(containerd.pid("s"), "Seccomp"), "2");
        containerd.ctr(["tasks", "kill", "--signal", "SIGKILL", "s"]).success();
        assert_eq!(containerd.delete("s"), 137);
    });
}

#[test]
fn a_later_container_of_a_group_has_the_network_that_it_names() {
    under_each(|containerd| {
        containerd.import("local/sleep:1", &wasm("sleep.p1"));
        let network = |id: &str, flags: &[&str]| {
            let pod = ["--detach", "--annotation", "io.containerd.runc.v2.group=pod"];
            let flags = [&pod, flags].concat();
            run(&mut containerd.run(&flags, "local/sleep:1", id, &["/app.wasm", "100000"]))
                .success();
            let pid = containerd.pid(id);
            let network = std::fs::read_link(format!("/proc/{pid}/ns/net")).expect("a namespace");
            (pid, network)
        };
        let of_machine = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
        let (shim, first) = network("first", &[]);
        let (other, second) = network("second", &[]);
        let (_, third) = network("third", &["--net-host"]);
        assert!(first != of_machine && second != of_machine && first != second && shim != other);
        assert_eq!(third, of_machine);
        let with = format!("network:/proc/{other}/ns/net");
        assert_eq!(network("fourth", &["--with-ns", &with]).1, second);
        for id in ["fourth", "third", "second", "first"] {
            containerd.ctr(["tasks", "kill", "--signal", "SIGKILL", id]).success();
            assert_eq!(containerd.delete(id), 137);
            containerd.ctr(["containers", "rm", id]).success();
        }
    });
}

#[test]
fn a_native_process_has_a_terminal_of_the_size_that_it_is_told() {
    under_each(|containerd| {
        containerd.import("local/native:1", &native_program());
        run(&mut containerd.run(&["--detach"], "local/native:1", "n", &["/app.wasm", "sleep"]))
            .success();
        // `ctr` wants a terminal itself.
        let exec = ["tasks", "exec", "--tty", "--exec-id", "t", "n", "/app.wasm", "terminal"];
        let command = containerd.ctr_command(exec);
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<String> =
            words.map(|word| format!("{:?}", word.to_str().unwrap())).collect();
        let line = format!("stty cols 91; {}", words.join(" "));
        let mut script = std::process::Command::new("script");
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        let mut script =
            script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script");
        let mut typed = script.stdin.take().expect("a pipe");
        let mut shown = BufReader::new(script.stdout.take().expect("a pipe"));
        let mut line = String::new();
        while !line.contains("ready") {
            line.clear();
            assert_ne!(shown.read_line(&mut line).expect("read"), 0, "it ended");
        }
        // Its size is told after its start.
        while !line.contains("columns 91") {
            line.clear();
            typed.write_all(b"x\n").expect("typed");
            assert_ne!(shown.read_line(&mut line).expect("read"), 0, "it ended");
        }
        typed.write_all(b"q\n").expect("typed");
        let mut rest = String::new();
        shown.read_to_string(&mut rest).expect("read");
        assert!(script.wait().expect("it ends").success(), "{rest}");
        containerd.ctr(["tasks", "kill", "--signal", "SIGKILL", "n"]).success();
        assert_eq!(containerd.delete("n"), 137);
    });
}

#[test]
fn native_containers_of_a_pod_are_the_runtimes_and_the_shim_is_their_parent() {
    under_each(|containerd| {
        containerd.import("local/native:1", &native_program());
        containerd.import("local/sleep:1", &wasm("sleep.p1"));
        let said = run(&mut containerd.run(&["--rm"], "local/native:1", "n", &["/app.wasm", "x"]));
        assert_eq!(said.success().stdout, "native x\n");
        let seven = ["/app.wasm", "exit", "7"];
        assert_eq!(run(&mut containerd.run(&["--rm"], "local/native:1", "e", &seven)).code, 7);
        let pod = ["--detach", "--annotation", "io.kubernetes.cri.sandbox-id=pod"];
        run(&mut containerd.run(&pod, "local/native:1", "pause", &["/app.wasm", "sleep"]))
            .success();
        run(&mut containerd.run(&pod, "local/sleep:1", "guest", &["/app.wasm", "100000"]))
            .success();
        let status = format!("/proc/{}/status", containerd.pid("pause"));
        let status = std::fs::read_to_string(status).expect("it runs");
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        assert_eq!(parent.map(str::trim), Some(containerd.pid("guest").to_string().as_str()));
        let exec = ["tasks", "exec", "--exec-id", "x", "pause", "/app.wasm", "beside"];
        assert_eq!(containerd.ctr(exec).success().stdout, "native beside\n");
        containerd.ctr(["tasks", "pause", "pause"]).success();
        assert_eq!(containerd.status("pause"), "PAUSED");
        containerd.ctr(["tasks", "resume", "pause"]).success();
        let metrics = containerd.ctr(["tasks", "metrics", "pause"]).success().stdout;
        assert!(metrics.contains("pids.current"), "{metrics}");
        for id in ["pause", "guest"] {
            containerd.ctr(["tasks", "kill", "--signal", "SIGKILL", id]).success();
            assert_eq!(containerd.delete(id), 137, "{id}");
            containerd.ctr(["containers", "rm", id]).success();
        }
    });
}

#[test]
fn a_shim_that_is_killed_leaves_no_native_process() {
    under_each(|containerd| {
        containerd.import("local/native:1", &native_program());
        run(&mut containerd.run(&["--detach"], "local/native:1", "n", &["/app.wasm", "sleep"]))
            .success();
        let pid = containerd.pid("n");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let shim = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent");
        let shim = rustix::process::Pid::from_raw(shim.trim().parse().expect("a number"));
        let signal = rustix::process::Signal::KILL;
        rustix::process::kill_process(shim.expect("a process"), signal).expect("killed");
        while std::path::Path::new(&format!("/proc/{pid}")).exists() {}
        containerd.ctr(["tasks", "delete", "--force", "n"]);
        containerd.ctr(["containers", "rm", "n"]).success();
    });
}

#[test]
fn an_isolation_that_is_asked_for_gives_a_process_of_its_own() {
    under_each(|containerd| {
        containerd.import("local/sleep:1", &wasm("sleep.p1"));
        let flags = ["--detach", "--annotation", "io.mote.isolation=process"];
        run(&mut containerd.run(&flags, "local/sleep:1", "s", &["/app.wasm", "100000"])).success();
        let pid = containerd.pid("s");
        assert_eq!(
            (status_of(pid, "Seccomp"), status_of(pid, "NoNewPrivs")),
            ("2".into(), "1".into())
        );
        let shim: u32 = status_of(pid, "PPid").parse().expect("a number");
        assert_eq!(status_of(shim, "Seccomp"), "0", "the pod's own process is another");
        containerd.ctr(["tasks", "kill", "--signal", "SIGKILL", "s"]).success();
        assert_eq!(containerd.delete("s"), 137);
    });
}
