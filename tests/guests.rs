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
