//! What a guest may touch: nothing by default, and only what is granted after that.

use crate::harness::{Daemon, Host, guest, printing};

#[test]
fn nothing_is_granted_by_default() {
    let host = Host::new();
    for name in ["read.p1", "read.p2"] {
        let out = host.cli(["run", &guest(name), "/etc/passwd", "/", "."]).success();
        assert!(out.stdout.lines().count() == 3 && !out.stdout.contains("root:"), "{out:?}");
    }
    let out = host.cli(["run", &guest("env.p1")]).success();
    assert_eq!(out.stdout, "", "no variable of the host");
}

#[test]
fn a_volume_is_seen_where_it_is_granted_and_as_it_is_granted() {
    let host = Host::new();
    host.file("data/note", "a note");
    let data = host.folder("data");
    for name in ["p1", "p2"] {
        for grant in [
            vec!["-v", "DATA:/d"],
            vec!["--dir", "DATA::/d"],
            vec!["--mount", "type=bind,source=DATA,target=/d"],
        ] {
            let grant: Vec<String> = grant.iter().map(|word| word.replace("DATA", &data)).collect();
            let (read, write) = (guest(&format!("read.{name}")), guest(&format!("write.{name}")));
            let out = host
                .cli([&["run".to_owned()], &grant[..], &[read, "/d/note".to_owned()]].concat())
                .success();
            assert_eq!(out.stdout, "/d/note: a note\n", "{grant:?}");
            let out = host.cli(
                [&["run".to_owned()], &grant[..], &[write, "/d/new".to_owned(), "5".to_owned()]]
                    .concat(),
            );
            assert_eq!(out.success().stdout, "wrote 5\n", "{grant:?}");
        }
        let read_only = format!("{data}:/d:ro");
        let out = host
            .cli(["run", "-v", &read_only, &guest(&format!("write.{name}")), "/d/other", "5"])
            .success();
        assert!(out.stdout.starts_with("cannot open:"), "{out:?}");
        assert!(!host.path("data/other").exists());
    }
}

#[test]
fn no_trick_of_paths_leads_out_of_a_volume() {
    for name in ["climb.p1", "climb.p2"] {
        let host = Host::new();
        let data = host.folder("data");
        std::os::unix::fs::symlink("/", host.path("data/up")).expect("linked");
        std::os::unix::fs::symlink("/etc/passwd", host.path("data/absolute")).expect("linked");
        std::os::unix::fs::symlink("/proc", host.path("data/proc")).expect("linked");
        let out =
            host.cli(["run", "-v", &format!("{data}:/data"), &guest(name), "/data"]).success();
        assert!(out.stdout.ends_with("none led out\n"), "{out:?}");
    }
}

#[test]
fn a_volume_that_cannot_be_granted_is_said_before_the_guest_starts() {
    let host = Host::new();
    let hello = guest("hello.p1");
    host.cli(["run", "-v", "/nowhere/at/all:/d", &hello])
        .fails(125, &["cannot grant the directory /nowhere/at/all", "HOST_DIR"]);
    let file = host.file("file", "");
    host.cli(["run", "-v", &format!("{file}:/d"), &hello]).fails(125, &["is not a directory"]);
    host.cli(["run", "-v", "nonsense", &hello]).fails(125, &["is not a volume"]);
    let config = host.file("config.toml", "[ceiling]\nvolumes = [\"/srv\"]\n");
    let data = host.folder("data");
    host.cli(["--config", &config, "run", "-v", &format!("{data}:/d"), &hello])
        .fails(125, &["is outside the folders"]);
}

#[test]
fn variables_come_from_flags_files_and_by_name() {
    let host = Host::new();
    let file = host.file("vars", "# remark\nA=1\n\nB=from file\n");
    for name in ["env.p1", "env.p2"] {
        let mut command = host.command([
            "run",
            "--env-file",
            &file,
            "-e",
            "B=2",
            "-e",
            "C",
            "-e",
            "NONE",
            &guest(name),
        ]);
        let out = crate::harness::run(command.env("C", "ours")).success();
        assert_eq!(out.stdout, "A=1\nB=2\nC=ours\n");
    }
}

#[test]
fn standard_input_is_passed_on_only_when_asked() {
    let host = Host::new();
    for name in ["cat.p1", "cat.p2"] {
        let guest = guest(name);
        assert_eq!(
            host.cli_with_input(&["run", "-i", &guest], "some input").success().stdout,
            "some input",
            "{name}"
        );
        assert_eq!(
            host.cli_with_input(&["run", &guest], "some input").success().stdout,
            "",
            "{name}"
        );
    }
}

#[test]
fn the_working_directory_is_the_guests_own() {
    let host = Host::new();
    host.file("data/sub/note", "found");
    let volume = format!("{}:/data", host.folder("data"));
    let out = host.cli(["run", "-v", &volume, "-w", "/data", &guest("env.p1")]).success();
    assert_eq!(out.stdout, "PWD=/data\n");
    for name in ["read.p1", "read.p2"] {
        let out = host
            .cli(["run", "-v", &volume, "-w", "/data/sub", &guest(name), "note", "/data/sub/note"])
            .success();
        assert_eq!(out.stdout, "note: found\n/data/sub/note: found\n", "{name}");
    }
    // The bound of a scratch space holds also where it is entered as the working directory.
    let out = host
        .cli(["run", "--tmpfs", "/t:size=5000", "-w", "/t", &guest("write.p1"), "x", "9000"])
        .success();
    assert_eq!(out.stdout, "wrote 5000, then StorageFull\n");
}

#[test]
fn what_an_image_asks_for_is_refused_by_flag_until_it_is_granted() {
    let host = Host::new();
    let file = guest("hello.p2");
    let table = [
        (
            "io.mote.allow-net=tcp://db.example.com:5432",
            vec!["--allow-net", "tcp://db.example.com:5432"],
        ),
        (
            "io.mote.allow-http=https://api.example.com",
            vec!["--allow-http", "https://api.example.com"],
        ),
        ("io.mote.allow-dns=true", vec!["--allow-dns"]),
        ("io.mote.memory=512m", vec!["--memory", "512MiB"]),
        ("io.mote.network=host", vec!["--network", "host"]),
    ];
    for (annotation, flags) in table {
        host.cli(["import", "--annotation", annotation, &file, "asks:1"]).success();
        host.cli(["run", "asks:1"]).fails(126, &[&format!("allow it with {}", flags.join(" "))]);
        let out = host.cli([&["run"], flags.as_slice(), &["asks:1"]].concat()).success();
        assert_eq!(out.stdout, "hello from asks\n");
        let said = host.cli(["run", "--annotation", annotation, "asks:1"]).success();
        assert_eq!(said.stdout, "hello from asks\n", "the operator's annotation is the same word");
    }
    host.cli(["import", "--annotation", "io.mote.memroy=1m", &file, "x:1"])
        .fails(126, &["io.mote.memroy"]);
}

#[test]
fn an_image_may_ask_for_less() {
    let host = Host::new();
    let file = host.file(
        "eat.wat",
        r#"(module (memory (export "memory") 1) (func (export "_start")
        (if (i32.eq (memory.grow (i32.const 32)) (i32.const -1)) (then unreachable))))"#,
    );
    host.cli(["import", "--annotation", "io.mote.memory=1m", &file, "small:1"]).success();
    host.cli(["run", "small:1"]).fails(137, &["limit 1MiB"]);
    host.cli(["run", "-m", "4m", "small:1"]).success();
}

#[test]
fn a_missing_import_is_named() {
    let host = Host::new();
    let file = host.file("odd.wat", r#"(module (import "acme" "launch" (func)) (memory (export "memory") 1) (func (export "_start")))"#);
    host.cli(["run", &file]).fails(126, &["imports acme::launch", "does not provide"]);
}

#[test]
fn functions_are_called_with_arguments() {
    let host = Host::new();
    let file = host.file("add.wat", r#"(module (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))"#);
    assert_eq!(host.cli(["run", "--invoke", "add(40, 2)", &file]).success().stdout, "42\n");
    host.cli(["run", "--invoke", "add(1)", &file]).fails(125, &["takes 2 arguments"]);
    host.cli(["run", "--invoke", "sub(1,2)", &file]).fails(127, &["no function `sub`", "add"]);
    host.cli(["run", &file]).fails(126, &["library", "--invoke"]);
}

#[test]
fn a_name_is_unique_while_its_container_runs() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    let host = Host::new();
    let mut first = host
        .command(["run", "--name", "one", &guest("sleep.p1")])
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut line = String::new();
    BufReader::new(first.stdout.take().expect("a pipe")).read_line(&mut line).expect("read");
    assert_eq!(line, "sleeping\n");
    host.cli(["run", "--name", "one", &guest("hello.p1")]).fails(125, &["the name one is in use"]);
    first.kill().expect("killed");
    first.wait().expect("ended");
    host.cli(["run", "--name", "one", &guest("hello.p1")]).success();
}

#[test]
fn what_would_have_no_effect_is_refused() {
    let host = Host::new();
    let module = guest("hello.p1");
    for flags in [
        vec!["-p", "127.0.0.1:18098:80"],
        vec!["--allow-net", "tcp://*:*"],
        vec!["--allow-http", "http://localhost"],
        vec!["--network", "host"],
    ] {
        let out = host.cli([&["run"], &flags[..], &[module.as_str()]].concat());
        out.fails(126, &["has no sockets", "wasm32-wasip2"]);
    }
    host.cli(["run", "-w", "/none", &module]).fails(125, &["no folder /none", "-w"]);
    host.cli(["run", "-w", "/", &module]).success();
    let note = ["run", "--annotation", "org.acme.note=x", module.as_str()];
    host.cli(note).fails(125, &["only io.mote.*"]);
    host.cli(["run", "--platform", "wasip1/wasm", &module]).fails(125, &["leave --platform out"]);
    host.cli(["run", "--creds", "a:b", &module]).fails(125, &["leave --creds out"]);
    host.cli(["run", "--pull", "always", &module]).fails(125, &["leave --pull out"]);
    host.cli(["pull", "--authfile", "/none.json", "localhost:1/x"]).fails(125, &["/none.json"]);
}

#[test]
fn a_profile_that_a_flag_names_has_to_fit() {
    let host = Host::new();
    let module = guest("hello.p1");
    let run = |words: &str| {
        let mut shell = std::process::Command::new("sh");
        let mote = host.command(["run"]);
        shell.args([
            "-c",
            &format!("ulimit -v 2000000; exec {} {words}", mote.get_program().display()),
        ]);
        shell.env_clear().envs(mote.get_envs().filter_map(|(name, value)| Some((name, value?))));
        crate::harness::run(&mut shell)
    };
    run(&format!("--profile gateway run {module}")).fails(125, &["address space", "micro"]);
    assert_eq!(run(&format!("run {module}")).success().stdout, "hello from hello.p1.wasm\n");
    let config = host.file("config.toml", "[engine]\nprofile = \"gateway\"\n");
    run(&format!("--config {config} run {module}")).success();
}

#[test]
fn what_follows_the_image_is_the_programs() {
    let host = Host::new();
    let module = guest("hello.p1");
    let out = host.cli(["run", "-q", &module, "-e", "x", "--help", "--memory", "--", "-"]);
    assert_eq!(out.success().stdout, "hello from hello.p1.wasm -e x --help --memory -- -\n");
    host.cli(["run", "--memroy", "5m", &module]).fails(125, &["--memroy", "--memory"]);
    let out = host.cli(["run", "--help"]).success();
    assert!(out.stdout.contains("<IMAGE> [ARG]..."), "{}", out.stdout);
}

#[test]
fn dockers_spellings_are_understood_and_slips_are_named() {
    let host = Host::new();
    host.file("data/note", "a note");
    let data = host.folder("data");
    let read = guest("read.p1");
    for options in ["ro,z", "Z", "rw"] {
        let out = host.cli(["run", "-v", &format!("{data}:/d:{options}"), &read, "/d/note"]);
        assert_eq!(out.success().stdout, "/d/note: a note\n", "{options}");
    }
    host.cli(["run", "-v", &format!("{data}:/d:row"), &read]).fails(125, &["`row`", "ro and rw"]);
    host.cli(["run", "--tmpfs", "/t:rw,noexec,size=1m", &read]).success();
    host.cli(["run", "-e", "=x", &read]).fails(125, &["NAME=VALUE"]);
    let file = host.file("env", "A=1\nexport B=2\n");
    host.cli(["run", "--env-file", &file, &read]).fails(125, &["export B=2"]);
    let out = host.cli(["run", &guest("hello.p1"), "--", "-x"]).success();
    assert_eq!(out.stdout, "hello from hello.p1.wasm -- -x\n");
    let add = host.file(
        "add.wat",
        r#"(module (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))"#,
    );
    assert_eq!(host.cli(["run", "--invoke", "add", &add, "1", "2"]).success().stdout, "3\n");
}

#[test]
fn an_empty_variable_is_passed_on() {
    let host = Host::new();
    let mut command = host.command(["run", "-e", "EMPTY", "-e", "ABSENT", &guest("env.p1")]);
    let out = crate::harness::run(command.env("EMPTY", "")).success();
    assert_eq!(out.stdout, "EMPTY=\n");
}

#[test]
fn a_listing_that_cannot_be_printed_is_an_error() {
    let host = Host::new();
    host.import("one:1", &printing("x"));
    let full = std::fs::File::options().write(true).open("/dev/full").expect("a full device");
    let out = host.command(["images"]).stdout(full).output().expect("ended");
    assert_eq!(out.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&out.stderr).contains("cannot write to standard output"));
}

#[test]
fn a_folder_is_listed_as_it_is_also_while_it_is_emptied() {
    let host = Host::new();
    for flags in [&[][..], &["--isolation", "process"], &["--storage-opt", "size=1m"]] {
        for number in 0..1_500 {
            host.file(&format!("data/{number:0>40}"), "");
        }
        let (folder, list) = (host.folder("data"), guest("list.c"));
        host.folder("data/folder");
        std::os::unix::fs::symlink("nowhere", host.path("data/link")).expect("linked");
        let _socket =
            std::os::unix::net::UnixListener::bind(host.path("data/socket")).expect("bound");
        let grant = format!("{folder}:/data");
        let args = [&["run", "-v", &grant], flags, &[&list, "/data"]].concat();
        let out = host.cli(&args).success();
        assert_eq!(out.stdout, "1503 names, 0 wrong, 1505 at the second time\n");
        for (list, what) in [("list.p1", "/data"), ("list.p2", "/data"), ("fill.p3", "list")] {
            let list = guest(list);
            let out = host.cli([&args[..3], flags, &[&list, what]].concat()).success();
            assert_eq!(out.stdout, "1503 names, 1 folders, 1 links\n", "{list} {flags:?}");
        }
        let out = host.cli([&args[..], &["forty"]].concat()).success();
        assert_eq!(out.stdout, "1505 to 1505 names\n");
        let out = host.cli([&args[..], &["back"]].concat()).success();
        assert_eq!(out.stdout, "500 of 500 places\n");
        std::fs::remove_dir(host.path("data/folder")).expect("removed");
        let out = host.cli([&args[..], &["remove"]].concat()).success();
        assert_eq!(
            (out.stdout.as_str(), out.stderr.as_str()),
            ("1502 names, 0 wrong, 2 at the second time\n", "")
        );
    }
}

#[test]
fn a_folder_is_listed_by_guests_that_share_threads() {
    let host = Host::new();
    let daemon = Daemon::start(&host);
    for number in 0..1_500 {
        host.file(&format!("data/{number:0>40}"), "");
    }
    let grant = format!("{}:/data", host.folder("data"));
    for (name, args, says) in [
        ("list.c", &["/data"][..], "1500 names, 0 wrong, 1502 at the second time\n"),
        ("list.c", &["/data", "forty"], "1502 to 1502 names\n"),
        ("list.p2", &["/data"], "1500 names, 0 folders, 0 links\n"),
        ("fill.p3", &["list"], "1500 names, 0 folders, 0 links\n"),
    ] {
        host.cli(["import", &guest(name), "list:1"]).success();
        let flags = ["run", "--rm", "-v", &grant, "list:1"];
        assert_eq!(daemon.docker([&flags, args].concat()).success().stdout, says, "{name}");
    }
}
