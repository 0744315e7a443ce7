//! Statement 4.1: usage never exceeds a limit. Each limit, under a guest that tries.

use crate::harness::{Host, guest};

#[test]
fn statement_4_1_a_spinning_guest_runs_out_of_fuel() {
    let host = Host::new();
    let out = host.cli(["run", "--fuel", "10000", &guest("spin.p1")]);
    assert_eq!(out.stderr, "spin.p1.wasm ran out of fuel (limit 10000)\n");
    assert_eq!(out.code, 152);
}

#[test]
fn fuel_is_counted_the_same_every_time() {
    let host = Host::new();
    let wat = r#"(module (memory (export "memory") 1) (func (export "_start") (local i32)
        (loop $l (local.set 0 (i32.add (local.get 0) (i32.const 1))) (br_if $l (i32.lt_u (local.get 0) (i32.const 1000))))))"#;
    let file = host.file("count.wat", wat);
    // The smallest amount that suffices, found by halving.
    let (mut low, mut high) = (1, 100_000);
    while low < high {
        let middle = (low + high) / 2;
        match host.cli(["run", "--fuel", &middle.to_string(), &file]).code {
            0 => high = middle,
            152 => low = middle + 1,
            other => panic!("exit code {other}"),
        }
    }
    for _ in 0..3 {
        host.cli(["run", "--fuel", &low.to_string(), &file]).success();
        host.cli(["run", "-W", &format!("fuel={}", low - 1), &file]).fails(152, &["out of fuel"]);
    }
}

#[test]
fn statement_4_1_a_busy_guest_is_stopped_at_its_deadline() {
    for name in ["spin.p1", "spin.p2"] {
        let host = Host::new();
        let out = host.cli(["run", "--timeout", "300ms", &guest(name)]);
        assert_eq!((out.stdout.as_str(), out.code), ("spinning\n", 124), "{out:?}");
        assert!(out.stderr.ends_with("timed out (limit 300ms)\n"), "{out:?}");
    }
}

#[test]
fn statement_4_1_a_sleeping_guest_does_not_outlive_its_deadline() {
    for name in ["sleep.p1", "sleep.p2"] {
        let host = Host::new();
        let out = host.cli(["run", "-W", "timeout=300ms", &guest(name)]);
        assert_eq!((out.stdout.as_str(), out.code), ("sleeping\n", 124), "{out:?}");
    }
}

#[test]
fn a_guest_that_nobody_reads_does_not_outlive_its_deadline() {
    use std::process::Stdio;
    let host = Host::new();
    let wat = r#"(module
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 2)
      (data (i32.const 0) "\00\01\00\00\00\00\01\00")
      (func (export "_start") (loop $l (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (br $l))))"#;
    let file = host.file("chatty.wat", wat);
    let mut child = host
        .command(["run", "--timeout", "300ms", &file])
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    // The pipe is held and never read.
    let _pipe = child.stdout.take();
    assert_eq!(child.wait().expect("ended").code(), Some(124));
}

#[test]
fn statement_4_1_memory_is_limited_over_all_of_a_container() {
    for name in ["eat.p1", "eat.p2"] {
        let host = Host::new();
        let out = host.cli(["run", "--memory", "32m", &guest(name)]);
        out.fails(137, &["ran out of memory (limit 32MiB)", "--memory"]);
    }
    // Two memories of one module share the limit.
    let host = Host::new();
    let wat = r#"(module (memory (export "memory") 1) (memory $two 1) (func (export "_start")
        (if (i32.eq (memory.grow (i32.const 200)) (i32.const -1)) (then unreachable))
        (if (i32.eq (memory.grow $two (i32.const 200)) (i32.const -1)) (then unreachable))))"#;
    let file = host.file("two.wat", wat);
    host.cli(["run", "-m", "30m", &file]).success();
    host.cli(["run", "-m", "20m", &file]).fails(137, &["ran out of memory"]);
}

#[test]
fn memory_that_a_guest_needs_at_its_start_is_refused_with_the_flag() {
    let host = Host::new();
    let file = host
        .file("big.wat", r#"(module (memory (export "memory") 1000) (func (export "_start")))"#);
    host.cli(["run", "--memory", "16m", &file]).fails(126, &["limit of 16MiB", "--memory"]);
}

#[test]
fn a_guest_that_copes_with_refused_memory_goes_on() {
    let host = Host::new();
    let wat = r#"(module (memory (export "memory") 1) (func (export "_start")
        (if (i32.ne (memory.grow (i32.const 10000)) (i32.const -1)) (then unreachable))))"#;
    let file = host.file("modest.wat", wat);
    host.cli(["run", "--memory", "1m", &file]).success();
}

#[test]
fn tables_and_stacks_are_bounded() {
    let host = Host::new();
    let table = host.file(
        "table.wat",
        r#"(module (table $t 1 funcref) (memory (export "memory") 1) (func (export "_start")
            (if (i32.ne (table.grow $t (ref.null func) (i32.const 2000000)) (i32.const -1)) (then unreachable))))"#,
    );
    host.cli(["run", &table]).success();
    let deep = host.file(
        "deep.wat",
        r#"(module (memory (export "memory") 1) (func $f (param i64) (call $f (local.get 0)) (drop (i64.add (local.get 0) (i64.const 1))))
            (func (export "_start") (call $f (i64.const 0))))"#,
    );
    host.cli(["run", &deep]).fails(134, &["call stack exhausted"]);
}

#[test]
fn a_trap_prints_the_wasm_stack() {
    let host = Host::new();
    let file = host.file(
        "trap.wat",
        r#"(module (memory (export "memory") 1) (func $inner unreachable) (func $outer (export "_start") (call $inner)))"#,
    );
    let out = host
        .cli(["run", "--name", "boom", &file])
        .fails(134, &["boom trapped", "unreachable", "at inner", "at outer"]);
    assert_eq!(out.stdout, "");
}

#[test]
fn a_cpu_share_is_held() {
    let host = Host::new();
    let out = host.cli(["demo"]).success();
    let share = out
        .stdout
        .lines()
        .rev()
        .find_map(|line| line.split("computed for ").nth(1))
        .expect("the busy one's figures");
    let percent: f64 = share
        .split(['(', '%'])
        .nth(1)
        .and_then(|text| text.trim().parse().ok())
        .expect("a percentage");
    assert!((20.0..=30.0).contains(&percent), "{percent} % of a CPU: {share}");
}

/// What a full disk looks like to a Rust guest. On WASI 0.2 wasi-libc turns every failed stream into
/// EIO, a full disk of the kernel's own included.
fn full(name: &str) -> &'static str {
    if name.ends_with("p1") { "StorageFull" } else { "Uncategorized" }
}

#[test]
fn statement_4_1_storage_is_limited_on_every_path() {
    for name in ["write.p1", "write.p2"] {
        for mode in ["", "append"] {
            let host = Host::new();
            let folder = host.folder("data");
            let volume = format!("{folder}:/data");
            let guest = guest(name);
            let mut args = vec![
                "run",
                "--storage-opt",
                "size=10000",
                "-v",
                &volume,
                &guest,
                "/data/x",
                "50000",
            ];
            args.extend((!mode.is_empty()).then_some(mode));
            let out = host.cli(&args).success();
            assert_eq!(out.stdout, format!("wrote 10000, then {}\n", full(name)), "{name} {mode}");
            let written = std::fs::metadata(host.path("data/x")).expect("a file").len();
            assert_eq!(written, 10_000, "nothing past the limit reaches the disk");
        }
    }
    for name in ["resize.p1", "resize.p2"] {
        let host = Host::new();
        let volume = format!("{}:/data", host.folder("data"));
        let run = |size: &str| {
            host.cli([
                "run",
                "--storage-opt",
                "size=10000",
                "-v",
                &volume,
                &guest(name),
                "/data/x",
                size,
            ])
        };
        assert_eq!(run("10001").success().stdout, "StorageFull\n", "{name}");
        assert_eq!(run("10000").success().stdout, "resized\n", "{name}");
    }
}

#[test]
fn scratch_space_has_a_size_and_is_gone_at_the_end() {
    for name in ["write.p1", "write.p2"] {
        let host = Host::new();
        let out = host
            .cli(["run", "--tmpfs", "/tmp:size=5000", &guest(name), "/tmp/x", "9000"])
            .success();
        assert_eq!(out.stdout, format!("wrote 5000, then {}\n", full(name)), "{name}");
        let left: Vec<_> = host.left("root/scratch").into_iter().collect();
        assert_eq!(left, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn statement_4_1_names_are_limited_on_every_path() {
    for name in ["fill.p1", "fill.p2", "fill.p3"] {
        for kind in ["file", "folder", "link", "symlink"] {
            let host = Host::new();
            let guest = guest(name);
            let mut args = vec!["run", "--tmpfs", "/tmp:size=409600", &guest];
            args.extend((!name.ends_with("p3")).then_some("/tmp"));
            args.push(kind);
            let out = host.cli(&args).success();
            let full =
                if name.ends_with("p3") { "ErrorCode::InsufficientSpace" } else { "StorageFull" };
            // One for the first file, 256 for nothing, and one for every 4 KiB.
            let expected = format!("356 names, then {full}; the first opens: true\n");
            assert_eq!(out.stdout, expected, "{name} {kind}");
        }
    }
}

#[test]
fn statement_4_1_storage_is_limited_for_streams_of_0_3() {
    let host = Host::new();
    let out = host.cli(["run", "--tmpfs", "/tmp:size=5000", &guest("fill.p3"), "write", "5001"]);
    let written = out.success().stdout;
    assert!(written.contains("InsufficientSpace"), "{written}");
    let out = host.cli(["run", "--tmpfs", "/tmp:size=5000", &guest("fill.p3"), "write", "5000"]);
    assert_eq!(out.success().stdout, "5000 bytes: Ok(())\n");
}

#[test]
fn scratch_space_is_gone_also_when_a_signal_ends_the_container() {
    use std::io::BufRead;
    use std::os::unix::process::ExitStatusExt;
    let host = Host::new();
    for signal in ["INT", "TERM"] {
        let mut child = host
            .command(["run", "--tmpfs", "/t", &guest("sleep.p1"), "100000"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("started");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        std::io::BufReader::new(stdout).read_line(&mut line).expect("it runs");
        crate::harness::tool("kill", ["-s", signal, &child.id().to_string()]);
        let ended = child.wait().expect("ended");
        assert_eq!(ended.signal(), Some(if signal == "INT" { 2 } else { 15 }));
        assert_eq!(host.left("root/scratch"), Vec::<String>::new(), "{signal}");
    }
}

/// A preview 1 module that makes the calls it is given and no other, as no compiler's library does.
/// `$name` holds the number of the round in its last three characters.
fn bare_calls(rounds: u32, calls: &str) -> String {
    let (file, size) = ("(param i32 i32 i32 i32) (result i32)", "(param i32 i64) (result i32)");
    let open = "(param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)";
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "path_open" (func $open {open}))
  (import "wasi_snapshot_preview1" "fd_write" (func $write {file}))
  (import "wasi_snapshot_preview1" "fd_filestat_set_size" (func $set_size {size}))
  (import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (memory (export "memory") 4)
  (data (i32.const 0) "name000.")
  (data (i32.const 16) "\00\00\01\00\00\00\01\00")
  (func $round (param $n i32)
    (i32.store8 (i32.const 6) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
    (i32.store8 (i32.const 5) (i32.add (i32.const 48) (i32.rem_u (i32.div_u (local.get $n) (i32.const 10)) (i32.const 10))))
    (i32.store8 (i32.const 4) (i32.add (i32.const 48) (i32.div_u (local.get $n) (i32.const 100))))
    {calls})
  (func (export "_start") (local $n i32)
    (loop $again
      (call $round (local.get $n))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $n) (i32.const {rounds}))))))"#
    )
}

#[test]
fn statement_4_1_a_shortening_that_fails_gives_nothing_back() {
    let host = Host::new();
    let file = host.file(
        "shorten.wat",
        bare_calls(
            40,
            "(drop (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 7) (i32.const 1) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 32)))
             (drop (call $write (i32.load (i32.const 32)) (i32.const 16) (i32.const 1) (i32.const 36)))
             (drop (call $close (i32.load (i32.const 32))))
             (drop (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 7) (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 32)))
             (drop (call $set_size (i32.load (i32.const 32)) (i64.const 0)))
             (drop (call $close (i32.load (i32.const 32))))",
        ),
    );
    let volume = format!("{}:/data", host.folder("data"));
    host.cli(["run", "--storage-opt", "size=65536", "-v", &volume, &file]).success();
    let sizes = std::fs::read_dir(host.path("data")).expect("a folder").flatten();
    let total: u64 = sizes.map(|entry| entry.metadata().expect("a file").len()).sum();
    assert_eq!(total, 65_536);
}

#[test]
fn statement_4_1_a_guest_without_a_library_is_held_to_its_storage() {
    let host = Host::new();
    let volume = format!("{}:/data", host.folder("data"));
    let open_self = "(drop (call $open (i32.const 3) (i32.const 0) (i32.const 7) (i32.const 1) (i32.const 2) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 32)))";
    let mkdir = "(drop (call $mkdir (i32.load (i32.const 32)) (i32.const 0) (i32.const 7)))";
    let folders = host.file("folders.wat", bare_calls(600, &format!("{open_self}{mkdir}")));
    host.cli(["run", "--storage-opt", "size=4096", "-v", &volume, &folders]).success();
    assert_eq!(std::fs::read_dir(host.path("data")).expect("a folder").count(), 257);
    // One whose first call opens a file may write to it as any other.
    let write = host.file(
        "first.wat",
        bare_calls(
            1,
            "(drop (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 7) (i32.const 1) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 32)))
             (if (call $write (i32.load (i32.const 32)) (i32.const 16) (i32.const 1) (i32.const 36)) (then unreachable))",
        ),
    );
    let other = format!("{}:/data", host.folder("other"));
    host.cli(["run", "--storage-opt", "size=100000", "-v", &other, &write]).success();
    assert_eq!(std::fs::metadata(host.path("other/name000")).expect("a file").len(), 65_536);
}

#[test]
fn files_that_are_there_may_be_written_anew_as_often_as_one_likes() {
    for name in ["rotate.p1", "rotate.p2"] {
        let host = Host::new();
        for number in 0..400 {
            host.file(&format!("data/{number}"), "x");
        }
        let volume = format!("{}:/data", host.folder("data"));
        let out = host.cli([
            "run",
            "--storage-opt",
            "size=40960",
            "-v",
            &volume,
            &guest(name),
            "/data",
            "400",
            "10",
        ]);
        assert_eq!(out.success().stdout, "400 rounds\n", "{name}");
    }
}

#[test]
fn rotating_logs_in_a_small_space_goes_on() {
    for name in ["rotate.p1", "rotate.p2"] {
        let host = Host::new();
        let out = host
            .cli(["run", "--tmpfs", "/tmp:size=20000", &guest(name), "/tmp", "20", "9000"])
            .success();
        assert_eq!(out.stdout, "20 rounds\n", "{name}");
    }
}

#[test]
fn a_limit_above_the_hosts_ceiling_is_refused() {
    let host = Host::new();
    let config = host.file("config.toml", "[ceiling]\nmemory = \"64m\"\ntimeout = \"10s\"\n[defaults]\ntimeout = \"5s\"\nmemory = \"16m\"\n");
    let run = |args: &[&str]| {
        host.cli([&["--config", &config, "run"], args, &[guest("hello.p1").as_str()]].concat())
    };
    run(&[]).success();
    run(&["-m", "64m"]).success();
    run(&["-m", "65m"])
        .fails(125, &["--memory 65MiB is above this host's ceiling of 64MiB", "config.toml"]);
    run(&["--timeout", "1m"]).fails(125, &["--timeout 1m is above"]);
}

#[test]
fn a_small_address_space_is_enough() {
    use std::process::Command;
    let host = Host::new();
    let hello = guest("hello.p1");
    let mote = env!("CARGO_BIN_EXE_mote");
    // 2 GiB: no room for a reservation of four.
    let script = format!("ulimit -v 2097152 && exec {mote} run {hello}");
    let out = crate::harness::run(
        Command::new("bash")
            .args(["-c", &script])
            .env("MOTE_ROOT", host.path("root"))
            .env("MOTE_STATE", host.path("state")),
    );
    assert_eq!(out.success().stdout, "hello from hello.p1.wasm\n");
    let script = format!("ulimit -v 2097152 && exec {mote} info -f '{{{{.Engine.Profile}}}}'");
    let out = crate::harness::run(
        Command::new("bash")
            .args(["-c", &script])
            .env("MOTE_ROOT", host.path("root"))
            .env("MOTE_STATE", host.path("state")),
    );
    assert_eq!(out.success().stdout, "micro\n");
}

#[test]
fn every_profile_runs_every_kind_of_guest() {
    for profile in ["micro", "gateway", "server"] {
        for name in ["hello.p1", "hello.p2", "hello.p3"] {
            let host = Host::new();
            let out = host.cli(["--profile", profile, "run", &guest(name), "x"]).success();
            assert_eq!(out.stdout, format!("hello from {name}.wasm x\n"), "{profile}");
        }
    }
}

#[test]
fn the_time_that_compiling_takes_is_not_the_guests() {
    let host = Host::new();
    // A program that takes longer to compile than its deadline allows it to run.
    let step = "(local.set 0 (i64.mul (local.get 0) (i64.xor (local.get 1) (i64.rotl (local.get 0) (i64.const 7)))))";
    let body = format!("{} (local.get 0)", step.repeat(60));
    let functions: String =
        (0..3_000).map(|n| format!("(func $f{n} (param i64 i64) (result i64) {body})")).collect();
    let text =
        format!("(module (memory (export \"memory\") 1) {functions} (func (export \"_start\")))");
    let file = host.file("slow.wat", text);
    host.cli(["run", "--timeout", "300ms", &file]).success();
}

#[test]
fn a_ceiling_below_the_defaults_lowers_them() {
    let host = Host::new();
    let config = host.file("config.toml", "[ceiling]\nmemory = \"64m\"\ntimeout = \"10s\"\n");
    host.cli(["--config", &config, "run", &guest("hello.p1")]).success();
}
