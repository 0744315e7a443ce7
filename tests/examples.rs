//! Each example of `examples/` does what it says.

use crate::harness::{Auth, DockerRegistry, Host, guest, printing_wasm, run};
use std::path::Path;
use std::process::Command;

fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}

#[test]
fn embed_pulls_and_runs_with_motes_crates() {
    let (host, registry) = (Host::new(), DockerRegistry::start(Auth::Open));
    host.file("push/app.wasm", printing_wasm("embedded"));
    let image =
        registry.oras_push(&host.folder("push"), "app:1", None, &["app.wasm:application/wasm"]);
    let program = Path::new(env!("CARGO_BIN_EXE_mote")).with_file_name("examples").join("embed");
    let out = run(Command::new(&program).args([&image, &host.folder("store")])).success();
    assert_eq!(out.stdout, "embedded\nembed: exited with code 0\n");
}

#[test]
fn images_shows_how_each_toolchain_makes_one() {
    let (host, registry) = (Host::new(), DockerRegistry::start(Auth::Open));
    for (script, guest_name) in [
        ("mote-import", "hello.p1"),
        ("oras", "hello.p2"),
        ("buildah", "hello.c"),
        ("umoci-skopeo", "hello.go"),
    ] {
        let image = registry.image(&format!("{script}:1"));
        let mut command = Command::new(folder("images").join(script));
        command
            .args([&guest(guest_name), &image])
            .env("MOTE", env!("CARGO_BIN_EXE_mote"))
            .env("MOTE_ROOT", host.path("root"))
            .env("MOTE_STATE", host.path("state"))
            .env("TMPDIR", host.folder("tmp"));
        run(&mut command).success();
        let out = host.cli(["run", "--pull", "always", &image, "x"]);
        assert!(
            out.stdout.starts_with("hello from ") && out.stdout.ends_with(" x\n"),
            "{script}: {out:?}"
        );
    }
}
