//! Programs of every toolchain run as they are.

use crate::harness::{Host, guest};

#[test]
fn programs_of_every_toolchain_run_unmodified() {
    let host = Host::new();
    let table = [
        ("hello.p1", 0),
        ("hello.p2", 0),
        ("hello.p3", 0),
        ("hello.c", 5),
        ("hello.go", 3),
        ("hello.py", 0),
        ("hello.js", 0),
    ];
    for (name, code) in table {
        let out = host.cli(["run", "-m", "512m", &guest(name), "a", "b"]);
        assert_eq!(out.stdout, format!("hello from {name}.wasm a b\n"), "{out:?}");
        assert_eq!(out.code, code, "{name}");
    }
}

#[test]
fn an_exit_code_arrives_whole_from_preview_1() {
    let host = Host::new();
    for code in [0, 1, 7, 126, 137, 255] {
        let out = host.cli(["run", &guest("exit.p1"), &code.to_string()]);
        assert_eq!((out.code, out.stderr.as_str()), (code, ""));
    }
    assert_eq!(host.cli(["run", &guest("exit.p2"), "0"]).code, 0);
    assert_eq!(
        host.cli(["run", &guest("exit.p2"), "7"]).code,
        1,
        "WASI 0.2 knows success and failure"
    );
}

#[test]
fn a_guest_is_not_told_of_a_terminal_that_is_none() {
    let host = Host::new();
    let out = host.cli(["run", "-t", &guest("hello.p1")]).success();
    assert_eq!(out.stdout, "hello from hello.p1.wasm\n");
}

#[test]
fn a_program_written_by_others_does_its_work() {
    let host = Host::new();
    host.file("tree/a/one.txt", "nothing here\n");
    host.file("tree/b/two.txt", "a needle in it\n");
    let volume = format!("{}:/tree:ro", host.folder("tree"));
    let out = host
        .cli(["run", "-v", &volume, &guest("ripgrep"), "--no-messages", "needle", "/tree"])
        .success();
    assert_eq!(out.stdout, "/tree/b/two.txt:a needle in it\n");
}

#[test]
fn large_programs_written_by_others_do_their_work() {
    let host = Host::new();
    let script =
        "import json, sys\nprint(json.dumps({'sum': sum(range(10)), 'args': sys.argv[1:]}))\n";
    host.file("scripts/a.py", script);
    host.file("scripts/a.php", "<?php echo strrev('etom'), \"\\n\";");
    let volume = format!("{}:/scripts:ro", host.folder("scripts"));
    // CPython and PHP, compiled from C; gojq, from Go; acorn, in JavaScript.
    let out = host.cli(["run", "-v", &volume, &guest("python-3.11.3"), "/scripts/a.py", "x"]);
    assert_eq!(out.success().stdout, "{\"sum\": 45, \"args\": [\"x\"]}\n");
    let out = host.cli(["run", "-v", &volume, &guest("php-cgi-8.2.0"), "-q", "/scripts/a.php"]);
    assert_eq!(out.success().stdout.lines().last(), Some("mote"));
    let out = host.cli_with_input(&["run", "-i", &guest("gojq"), ".a | add"], r#"{"a":[1,2,3]}"#);
    assert_eq!(out.success().stdout, "6\n");
    let out = host.cli(["run", &guest("acorn.js"), "let a = 1; function f() {}"]);
    assert_eq!(out.success().stdout, "VariableDeclaration FunctionDeclaration\n");
    // SQLite, built years ago for `wasi_unstable`; its file is written through the storage quota.
    let data = format!("{}:/data", host.folder("data"));
    let sql = |text: &str| {
        let args =
            ["run", "-i", "-v", &data, "--storage-opt", "size=1m", &guest("sqlite"), "/data/x.db"];
        host.cli_with_input(&args, text).success().stdout
    };
    sql("create table t(n); insert into t values (6), (7);\n");
    assert!(sql("select n * 7 from t where n = 6;\n").contains("42"));
}
