//! The shim under real containerds, driven by `ctr`.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use crate::docker::SERVICE;
use crate::harness::{
    Blob, Containerd, Host, Image, Version, guest, native_program, run, tar, tool,
};

pub fn wasm(name: &str) -> Vec<u8> {
    std::fs::read(guest(name)).expect("a guest")
}

/// Runs a check under both containerds.
pub fn under_each(check: impl Fn(&Containerd<'_>)) {
    for version in Version::ALL {
        let host = Host::new();
        check(&Containerd::start(&host, version));
        assert_eq!(mounts_below(&host), Vec::<String>::new(), "{version:?}");
    }
}

/// What is mounted below a host's folder: nothing that the shim mounts is to be seen.
fn mounts_below(host: &Host) -> Vec<String> {
    let folder = host.path("").display().to_string();
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
    mounts.lines().filter(|line| line.contains(&folder)).map(str::to_owned).collect()
}

#[test]
fn a_container_lives_and_ends_with_its_own_code() {
    under_each(|containerd| {
        containerd.import("local/hello:1", &wasm("hello.p1"));
        containerd.import("local/exit:1", &wasm("exit.p1"));
        containerd.import("local/cat:1", &wasm("cat.p1"));
        let hello = run(&mut containerd.run(&["--rm"], "local/hello:1", "a", &["/app.wasm", "x"]));
        assert_eq!(hello.success().stdout, "hello from /app.wasm x\n");
        let seven = ["/app.wasm", "7"];
        assert_eq!(run(&mut containerd.run(&["--rm"], "local/exit:1", "b", &seven)).code, 7);
        let mut cat = containerd.run(&["--rm"], "local/cat:1", "c", &[]);
        let mut cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("ctr");
        cat.stdin.take().expect("a pipe").write_all(b"typed\n").expect("written");
        let output = cat.wait_with_output().expect("it ends");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "typed\n");
        assert_eq!(containerd.ctr(["tasks", "ls", "-q"]).success().stdout, "");
    });
}

#[test]
fn a_component_finds_its_files_and_a_volume_is_as_it_was_mounted() {
    under_each(|containerd| {
        containerd.import("local/read:1", &wasm("read.p2"));
        let read = |flags: &[&str], path: &str| {
            run(&mut containerd.run(
                &[&["--rm"], flags].concat(),
                "local/read:1",
                "r",
                &["/app.wasm", path],
            ))
        };
        let hosts = read(&[], "/etc/hosts").success().stdout;
        assert_eq!(hosts, "/etc/hosts: 127.0.0.1 localhost\n");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("note"), "kept\n").expect("written");
        let mount = |options: &str| {
            format!("type=bind,src={},dst=/new/place,options={options}", folder.path().display())
        };
        // A device's node is none to a guest, which is root's own process.
        tool("mknod", [&folder.path().join("zero").display().to_string(), "c", "1", "5"]);
        let device = read(&["--mount", &mount("rbind")], "/new/place/zero");
        assert!(device.stdout.contains("/new/place/zero: ") && !device.stdout.contains('\0'));
        assert!(device.stdout.len() < 200, "{}", device.stdout.len());
        let mounted = read(&["--mount", &mount("rbind:ro")], "/new/place/note");
        assert_eq!(mounted.success().stdout, "/new/place/note: kept\n");
    });
}

#[test]
fn a_trap_has_a_code_of_its_own_and_says_why() {
    under_each(|containerd| {
        let trap = r#"(module (memory (export "memory") 1) (func (export "_start") unreachable))"#;
        containerd.import("local/trap:1", &assemble(trap));
        let trapped = run(&mut containerd.run(&["--rm"], "local/trap:1", "t", &[]));
        trapped.fails(134, &["t trapped: wasm trap: wasm `unreachable`"]);
    });
}

pub fn assemble(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("it is WebAssembly")
}

#[test]
fn a_running_container_is_paused_measured_and_ended() {
    // In the shim's process, and in one of its own.
    under_each(|containerd| {
        containerd.import("local/spin:1", &wasm("spin.p1"));
        containerd.import_for_user("local/spin:2", &wasm("spin.p1"), "1000:1000");
        is_paused_measured_and_ended(containerd, "local/spin:1");
        is_paused_measured_and_ended(containerd, "local/spin:2");
    });
}

fn is_paused_measured_and_ended(containerd: &Containerd<'_>, image: &str) {
    containerd.run_detached(&["--memory-limit", "33554432"], image, "s");
    let cpu = || {
        let shown = containerd.ctr(["tasks", "metrics", "s"]).success().stdout;
        let line = shown
            .lines()
            .find(|line| line.starts_with("cpuacct.usage ") || line.starts_with("cpu.usage_usec"));
        let value = line.and_then(|line| line.split_whitespace().nth(1)).expect("a figure");
        value.parse::<u64>().expect("a number")
    };
    let shown = containerd.ctr(["tasks", "metrics", "s"]).success().stdout;
    assert!(shown.contains("33554432"), "{shown}");
    let before = cpu();
    while cpu() == before {}
    containerd.ctr(["tasks", "pause", "s"]).success();
    assert_eq!(containerd.status("s"), "PAUSED");
    // What was under way when it was told may still have to be counted; then it computes nothing.
    let (mut paused, mut still) = (cpu(), 0);
    while still < 5 {
        let now = cpu();
        still = if now == paused { still + 1 } else { 0 };
        paused = now;
    }
    containerd.ctr(["tasks", "resume", "s"]).success();
    while cpu() == paused {}
    containerd.ctr(["tasks", "kill", "--signal", "SIGTERM", "s"]).success();
    assert_eq!(containerd.delete("s"), 143);
    assert_eq!(containerd.status("s"), "");
    containerd.ctr(["containers", "rm", "s"]).success();
}

#[test]
fn a_function_runs_beside_its_container() {
    under_each(|containerd| {
        containerd.import("local/service:1", &assemble(SERVICE));
        containerd.run_detached(&[], "local/service:1", "web");
        let exec = |id: &str, command: &[&str]| {
            containerd.ctr([&["tasks", "exec", "--exec-id", id, "web"], command].concat())
        };
        assert_eq!(exec("one", &["add", "2", "3"]).success().stdout, "5\n");
        assert_eq!(exec("two", &["check"]).code, 0);
        let broken = exec("three", &["broken"]);
        assert_eq!(broken.code, 134, "{broken:?}");
        let missing = exec("four", &["nothing"]);
        assert!(missing.stderr.contains("nothing is no function"), "{missing:?}");
        containerd.ctr(["tasks", "kill", "--signal", "SIGKILL", "web"]).success();
        assert_eq!(containerd.delete("web"), 137);
    });
}

#[test]
fn an_image_of_many_layers_runs() {
    under_each(|containerd| {
        let layer = |number: u32| {
            let name = format!("layer-{number}");
            let content = tar(&[(&name, b"x")]);
            Blob::new("application/vnd.oci.image.layer.v1.tar", content)
        };
        let mut layers: Vec<Blob> = (0..70).map(layer).collect();
        let program = tar(&[("hello.wasm", &wasm("hello.p1"))]);
        layers.push(Blob::new("application/vnd.oci.image.layer.v1.tar", program));
        let digests: Vec<String> = layers.iter().map(Blob::digest).collect();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux",
            "config": { "Entrypoint": ["/hello.wasm"] },
            "rootfs": { "type": "layers", "diff_ids": digests },
        });
        let config = Blob::new("application/vnd.oci.image.config.v1+json", config.to_string());
        containerd.import_image("default", "local/many:1", &Image { config, layers });
        let said = run(&mut containerd.run(&["--rm"], "local/many:1", "m", &["/hello.wasm", "x"]));
        assert_eq!(said.success().stdout, "hello from /hello.wasm x\n");
    });
}

#[test]
fn what_a_guest_cannot_have_fails_with_the_reason() {
    under_each(|containerd| {
        containerd.import("local/hello:1", &wasm("hello.p1"));
        let hello = |flags: &[&str]| {
            run(&mut containerd.run(&[&["--rm"], flags].concat(), "local/hello:1", "h", &[]))
        };
        let wrong = hello(&["--annotation", "io.mote.memoryy=1m"]);
        assert!(wrong.code != 0 && wrong.stderr.contains("io.mote.memoryy"), "{wrong:?}");
        hello(&["--annotation", "io.mote.fuel=10"]).fails(152, &["ran out of fuel"]);
        // A pod's grants are for all of its containers, also for one that has no sockets.
        hello(&["--annotation", "io.mote.publish=18080:18080"]).success();
        let missing = containerd.run(&["--rm"], "local/hello:1", "h", &["/missing.wasm"]);
        run(&mut { missing }).fails(1, &["missing.wasm"]);
        // What failed has left nothing in the way of what comes after it.
        hello(&[]).success();
    });
}

#[test]
fn a_node_says_how_much_any_container_gets() {
    under_each(|containerd| {
        containerd.import("local/hello:1", &wasm("hello.p1"));
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("node.toml");
        std::fs::write(&file, "[ceiling]\nmemory = \"16m\"\n").expect("written");
        let hello = |more: &[&str]| {
            let options = ["--rm", "--runtime-config-path", file.to_str().expect("a path")];
            run(&mut containerd.run(&[&options, more].concat(), "local/hello:1", "h", &[]))
        };
        let much = hello(&["--memory-limit", "33554432"]);
        assert!(much.stderr.contains("above this host's ceiling of 16MiB"), "{much:?}");
        hello(&["--memory-limit", "8388608"]).success();
        // What is mounted is not the node's to say: the root is a mount as well.
        std::fs::write(&file, "[ceiling]\nvolumes = [\"/srv\"]\ncpus = 0.5\n").expect("written");
        hello(&[]).success();
        std::fs::write(&file, "[ceiling]\nmemroy = \"16m\"\n").expect("written");
        let wrong = hello(&[]);
        assert!(wrong.stderr.contains("memroy"), "{wrong:?}");
    });
}

#[test]
fn what_a_guest_uses_is_its_pods() {
    under_each(|containerd| {
        containerd.import("local/sleep:1", &wasm("sleep.p1"));
        let pod = format!("mote-test-{}", std::process::id());
        let path = format!("/{pod}/one");
        let flags = ["--detach", "--cgroup", &path];
        run(&mut containerd.run(&flags, "local/sleep:1", "one", &["/app.wasm", "100000"]))
            .success();
        let cgroups = format!("/proc/{}/cgroup", containerd.pid("one"));
        let of = |controller: &str| {
            let cgroups = std::fs::read_to_string(&cgroups).expect("it runs");
            let mut lines = cgroups.lines();
            lines.any(|line| line.ends_with(&format!(":{controller}:/{pod}/mote-one")))
        };
        let is_v2 = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        assert!(if is_v2 { of("") } else { of("memory") && of("pids") });
        let folder = if is_v2 { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/memory" };
        let folder = std::path::Path::new(folder).join(&pod);
        containerd.ctr(["tasks", "kill", "--signal", "SIGKILL", "one"]).success();
        containerd.delete("one");
        // It leaves when it has told containerd all.
        while folder.join("mote-one").exists() {}
        containerd.ctr(["containers", "rm", "one"]).success();
        for name in ["cpu", "cpuacct", "memory", "pids", "cpuset", "."] {
            let _ =
                std::fs::remove_dir(std::path::Path::new("/sys/fs/cgroup").join(name).join(&pod));
        }
    });
}

#[test]
fn an_image_that_is_a_program_and_no_files_runs() {
    for version in [Version::OneSeven, Version::Two] {
        let host = Host::new();
        let containerd = Containerd::start(&host, version);
        let config = |entrypoint: &str| {
            let config = serde_json::json!({
                "architecture": "wasm", "os": "wasip1", "config": { "Entrypoint": [entrypoint] },
                "rootfs": { "type": "layers", "diff_ids": [] },
            });
            Blob::new("application/vnd.oci.image.config.v1+json", config.to_string())
        };
        for (name, program) in [("local/hello:1", "hello.p1"), ("local/hello:2", "hello.p2")] {
            let layers = vec![Blob::new("application/wasm", wasm(program))];
            let image = Image { config: config("/hello"), layers };
            containerd.import_image("default", name, &image);
            // The second time it has been compiled.
            for id in ["a", "b"] {
                let hello = run(&mut containerd.run(&["--rm"], name, id, &[])).success();
                assert_eq!(hello.stdout, "hello from /hello\n", "{version:?}");
            }
            let named = run(&mut containerd.run(&["--rm"], name, "c", &["other", "x"])).success();
            assert_eq!(named.stdout, "hello from other x\n");
        }
        let layers = vec![Blob::new("application/wasm", b"\x7fELF".to_vec())];
        containerd.import_image("default", "local/elf:1", &Image { config: config("x"), layers });
        let elf = run(&mut containerd.run(&["--rm"], "local/elf:1", "d", &[]));
        assert!(elf.code != 0, "{elf:?}");
    }
}

#[test]
fn events_come_in_their_order_and_tell_of_memory_that_ran_out() {
    under_each(|containerd| {
        let eater = r#"(module (memory (export "memory") 1) (func (export "_start")
            (loop (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable)) (br 0))))"#;
        containerd.import("local/eat:1", &assemble(eater));
        let mut events = containerd.ctr_command(["events"]);
        let mut events = events.stdout(Stdio::piped()).spawn().expect("ctr");
        let lines = BufReader::new(events.stdout.take().expect("a pipe")).lines();
        let (tell, told) = std::sync::mpsc::channel();
        let reading = std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| drop(tell.send(line)));
        });
        let flags = ["--rm", "--memory-limit", "8388608"];
        let eat = |id: &str| {
            run(&mut containerd.run(&flags, "local/eat:1", id, &[])).fails(137, &["out of memory"])
        };
        // Until it listens, nothing is told.
        while told.try_recv().is_err() {
            eat("first");
        }
        eat("hungry");
        let mut topics: Vec<String> = Vec::new();
        while topics.last().is_none_or(|last| last != "/tasks/delete") {
            let line = told.recv().expect("something happens");
            let topic = line.split_whitespace().find(|word| word.starts_with("/tasks/"));
            if line.contains("hungry") {
                topics.extend(topic.map(str::to_owned));
            }
        }
        events.kill().expect("ended");
        events.wait().expect("ended");
        reading.join().expect("ended");
        let expected = ["create", "start", "oom", "exit", "delete"];
        assert_eq!(topics, expected.map(|topic| format!("/tasks/{topic}")));
    });
}

#[test]
fn a_container_outlives_containerd_and_its_code_is_kept() {
    for version in Version::ALL {
        let host = Host::new();
        let containerd = Containerd::start(&host, version);
        containerd.import("local/sleep:1", &wasm("sleep.p1"));
        run(&mut containerd.run(&["--detach"], "local/sleep:1", "s", &["/app.wasm", "100000"]))
            .success();
        let pid = containerd.pid("s");
        containerd.stop();
        let containerd = Containerd::start(&host, version);
        assert_eq!((containerd.status("s").as_str(), containerd.pid("s")), ("RUNNING", pid));
        containerd.ctr(["tasks", "kill", "--signal", "SIGKILL", "s"]).success();
        assert_eq!(containerd.delete("s"), 137);
    }
}

#[test]
fn a_shim_that_is_killed_leaves_nothing() {
    // Its cgroup has the name alone, and other tests have containers as well.
    const ID: &str = "killed";
    under_each(|containerd| {
        containerd.import("local/sleep:1", &wasm("sleep.p1"));
        run(&mut containerd.run(&["--detach"], "local/sleep:1", ID, &["/app.wasm", "100000"]))
            .success();
        let bundle = containerd.bundle(ID);
        let socket = std::fs::read_to_string(bundle.join("address")).expect("an address");
        let socket = std::path::Path::new(socket.strip_prefix("unix://").expect("a socket"));
        assert!(socket.exists());
        let pid = rustix::process::Pid::from_raw(containerd.pid(ID) as i32).expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
        // containerd asks the shim to clear away, and then removes the bundle.
        while bundle.exists() {
            std::thread::yield_now();
        }
        containerd.ctr(["tasks", "delete", "--force", ID]);
        containerd.ctr(["containers", "rm", ID]).success();
        assert!(!socket.exists(), "its socket is gone");
        for hierarchy in ["memory", "."] {
            let cgroup = std::path::Path::new("/sys/fs/cgroup").join(hierarchy);
            assert!(!cgroup.join("default/mote-killed").exists(), "its cgroup is gone");
        }
        // Its name can be had again.
        run(&mut containerd.run(&["--rm"], "local/sleep:1", ID, &["/app.wasm", "1"])).success();
    });
}

#[test]
fn output_goes_to_files_and_to_programs_that_keep_it() {
    under_each(|containerd| {
        containerd.import("local/hello:1", &wasm("hello.p1"));
        containerd.import("local/native:1", &native_program());
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(
            path("logger"),
            "#!/bin/sh\nexec 5>&-\n{ echo \"$CONTAINER_NAMESPACE/$CONTAINER_ID $1=$2\"; cat <&3; } >\"$2\"\n",
        )
        .expect("written");
        tool("chmod", ["+x", &path("logger")]);
        for (image, said) in [("hello", "hello from /app.wasm\n"), ("native", "native \n")] {
            let image = format!("local/{image}:1");
            let file = path("file.log");
            let to_file = format!("file://{file}");
            containerd.run_detached(&["--log-uri", &to_file], &image, "f");
            while containerd.status("f") != "STOPPED" {}
            assert_eq!(containerd.delete("f"), 0);
            assert_eq!(std::fs::read_to_string(&file).expect("a log"), said);
            std::fs::remove_file(&file).expect("removed");
            containerd.ctr(["containers", "rm", "f"]).success();
            let kept = path("kept");
            let to_program = format!("binary://{}?out={kept}", path("logger"));
            containerd.run_detached(&["--log-uri", &to_program], &image, "b");
            let expected = format!("default/b out={kept}\n{said}");
            while std::fs::read_to_string(&kept).unwrap_or_default() != expected {}
            std::fs::remove_file(&kept).expect("removed");
            while containerd.status("b") != "STOPPED" {}
            assert_eq!(containerd.delete("b"), 0);
            containerd.ctr(["containers", "rm", "b"]).success();
        }
    });
}

#[test]
fn it_is_installed_for_a_containerd_of_either_configuration() {
    let host = Host::new();
    let to = host.path("made/bin").display().to_string();
    let wrong = host.file("wrong.toml", "version = 1\n");
    let refused = ["shim", "install", "--to", &to, "--containerd-config", &wrong];
    host.cli(refused).fails(125, &["is of version 1"]);
    assert!(!host.path("made").exists(), "nothing was written");
    for (version, plugin) in [(2, "io.containerd.grpc.v1.cri"), (3, "io.containerd.cri.v1.runtime")]
    {
        let config = host.file("config.toml", format!("version = {version}\n# mine\n"));
        let install = ["shim", "install", "--to", &to, "--containerd-config", &config];
        let shown = host.cli(install).success().stdout;
        assert!(shown.contains(plugin) && shown.contains("kind: RuntimeClass"), "{shown}");
        host.cli([&install[..], &["--apply"]].concat()).success();
        let written = host.read("config.toml");
        assert!(written.starts_with(&format!("version = {version}\n# mine\n")), "{written}");
        assert!(written.contains(&format!("[plugins.\"{plugin}\".containerd.runtimes.mote]")));
        assert!(written.contains("containerd.runtimes.runc]"), "the usual one stays: {written}");
        let again = host.cli([&install[..], &["--apply"]].concat()).success().stdout;
        assert!(again.contains("already"), "{again}");
    }
    for program in ["mote", "containerd-shim-mote-v1"] {
        let ran = run(std::process::Command::new(format!("{to}/{program}")).arg("--version"));
        assert!(ran.success().stdout.contains(env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn a_program_is_compiled_once_however_many_containers_begin_with_it_together() {
    let host = Host::new();
    let containerd = Containerd::start_counting(&host, Version::Two);
    for number in 0..5 {
        let text = format!(
            r#"(module (memory (export "memory") 1) (global i32 (i32.const {number})) (func (export "_start")))"#
        );
        containerd.import(&format!("local/p{number}:1"), &assemble(&text));
    }
    std::thread::scope(|scope| {
        for number in 0..20 {
            let containerd = &containerd;
            let (image, id) = (format!("local/p{}:1", number % 5), format!("c{number}"));
            scope.spawn(move || run(&mut containerd.run(&["--rm"], &image, &id, &[])).success());
        }
    });
    assert_eq!(host.read("compiles").lines().count(), 5);
}
