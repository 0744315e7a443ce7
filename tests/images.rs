//! What is done with images once they are here.

use crate::harness::{Host, printing};

fn host_with(names: &[&str]) -> Host {
    let host = Host::new();
    for name in names {
        host.import(name, &printing(name));
    }
    host
}

#[test]
fn images_are_listed_in_every_form() {
    let host = host_with(&["acme/one:1", "acme/two:2"]);
    let table = host.cli(["images"]).success().stdout;
    assert!(table.starts_with("REPOSITORY  TAG  IMAGE ID"), "{table}");
    assert!(
        table.lines().nth(1).expect("a row").starts_with("acme/two    2    "),
        "the newest first: {table}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&host.cli(["images", "--format", "json"]).success().stdout)
            .expect("JSON");
    assert_eq!(json[0]["Repository"], "acme/two");
    let filled =
        host.cli(["images", "--format", "{{.Repository}}:{{.Tag}}", "acme/one"]).success().stdout;
    assert_eq!(filled, "acme/one:1\n");
    host.cli(["images", "--format", "{{.Nope}}"]).fails(125, &["no field `Nope`", "Repository"]);
    assert_eq!(host.cli(["images", "-q"]).success().stdout.lines().count(), 2);
}

#[test]
fn tags_name_the_same_image_and_the_last_one_takes_it_away() {
    let host = host_with(&["one:1"]);
    host.cli(["tag", "one:1", "two:2", "r.example.com/three:3"]).success();
    assert_eq!(host.cli(["run", "two:2"]).success().stdout, "one:1\n");
    host.cli(["rmi", "one:1", "two:2"]).success();
    assert_eq!(
        host.cli(["run", "--pull", "never", "r.example.com/three:3"]).success().stdout,
        "one:1\n"
    );
    host.cli(["rmi", "r.example.com/three:3"]).success();
    let left = host.left("root");
    let kept = |name: &String| name.contains("blobs/sha256/") || name.ends_with(".cwasm");
    assert!(!left.iter().any(kept), "blobs and code are gone: {left:?}");
    host.cli(["rmi", "one:1"]).fails(1, &["No such image: one:1"]);
    host.cli(["rmi", "-f", "one:1"]).success();
}

#[test]
fn images_are_named_by_the_start_of_their_digest() {
    let host = host_with(&["one:1"]);
    let id = host.cli(["images", "-q"]).success().stdout.trim().to_owned();
    host.cli(["tag", &id[..6], "again:1"]).success();
    assert_eq!(host.cli(["run", "again:1"]).success().stdout, "one:1\n");
    assert_eq!(host.cli(["run", "--pull", "never", &id]).success().stdout, "one:1\n");
    host.cli(["rmi", &id]).fails(1, &["repositories: one:1, again:1", "--force"]);
    host.cli(["rmi", "--force", &id]).success();
    assert_eq!(host.cli(["images", "-q"]).success().stdout, "");
}

#[test]
fn inspect_tells_what_an_image_is_and_asks_for() {
    let host = Host::new();
    let file = host.file("a.wat", printing("x"));
    host.cli(["import", "--annotation", "io.mote.memory=16m", &file, "one:1"]).success();
    let json: serde_json::Value =
        serde_json::from_str(&host.cli(["inspect", "one:1"]).success().stdout).expect("JSON");
    assert_eq!(json[0]["Program"]["Kind"], "module");
    assert_eq!(json[0]["Program"]["World"], "command");
    assert_eq!(json[0]["Program"]["Imports"][0], "wasi_snapshot_preview1::fd_write");
    assert_eq!(json[0]["Asks"]["io.mote.memory"], "16MiB");
    assert_eq!(
        host.cli(["inspect", "-f", "{{.Os}}/{{.Architecture}}", "one:1"]).success().stdout,
        "wasip1/wasm\n"
    );
    let history = host.cli(["history", "one:1"]).success().stdout;
    assert!(history.contains("application/wasm"), "{history}");
    host.cli(["inspect", "none:1"]).fails(127, &["no image none:1 is here", "mote pull"]);
}

#[test]
fn the_store_tells_what_it_takes_and_finds_what_is_damaged() {
    let host = host_with(&["one:1", "two:1"]);
    let df: serde_json::Value =
        serde_json::from_str(&host.cli(["system", "df", "--format", "json"]).success().stdout)
            .expect("JSON");
    assert!(df[0]["Bytes"].as_u64() > Some(500) && df[2]["Bytes"].as_u64() > Some(1_000), "{df}");
    host.cli(["system", "check"]).success();

    let digest = host.cli(["inspect", "-f", "{{.Program.Digest}}", "one:1"]).success().stdout;
    let blob = host.path(&format!("root/images/blobs/{}", digest.trim().replace(':', "/")));
    let mut bytes = std::fs::read(&blob).expect("a blob");
    bytes[20] ^= 1;
    std::fs::write(&blob, bytes).expect("damaged");
    let found = host.cli(["system", "check"]).fails(1, &["--repair"]);
    assert!(found.stdout.contains("is damaged"), "{found:?}");
    let told = host.cli(["system", "check", "--repair"]).success().stderr;
    assert!(told.contains("image one:1 is gone: `mote pull one:1`"), "{told}");
    host.cli(["system", "check"]).success();
    host.cli(["run", "--pull", "never", "one:1"]).fails(127, &["is not here"]);
    assert_eq!(host.cli(["run", "two:1"]).success().stdout, "two:1\n", "the other is as it was");
}

#[test]
fn an_empty_or_broken_index_is_found_and_mended() {
    for content in ["", "{", "null"] {
        let host = host_with(&["one:1"]);
        std::fs::write(host.path("root/images/index.json"), content).expect("damaged");
        host.cli(["images"]).fails(125, &["is damaged", "mote system check --repair"]);
        let told = host.cli(["system", "check", "--repair"]).success().stderr;
        assert!(told.contains("has lost its name"), "{told}");
        let id = host.cli(["images", "-q"]).success().stdout.trim().to_owned();
        host.cli(["tag", &id, "found:1"]).success();
        assert_eq!(host.cli(["run", "found:1"]).success().stdout, "one:1\n");
        assert!(host.path("root/images/index.json.damaged").exists());
        host.import("one:1", &printing("again"));
        assert_eq!(host.cli(["run", "one:1"]).success().stdout, "again\n");
    }
}

#[test]
fn damaged_or_foreign_compiled_code_is_compiled_anew() {
    let host = host_with(&["one:1"]);
    for name in host.left("root/compiled").iter().filter(|name| name.ends_with(".cwasm")) {
        let mut bytes = std::fs::read(name).expect("code");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(name, bytes).expect("damaged");
    }
    assert_eq!(host.cli(["run", "one:1"]).success().stdout, "one:1\n");
}

#[test]
fn help_versions_completions_and_manuals_are_there() {
    let host = Host::new();
    for words in [
        vec!["--help"],
        vec!["run", "--help"],
        vec!["system", "check", "--help"],
        vec!["--version"],
        vec!["version"],
        vec!["info"],
    ] {
        assert!(!host.cli(&words).success().stdout.is_empty(), "{words:?}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(host.cli(["completion", shell]).success().stdout.contains("mote"), "{shell}");
    }
    let pages = host.path("man").display().to_string();
    host.cli(["man", &pages]).success();
    assert!(host.path("man/mote-run.1").exists());
    host.cli(["run"]).fails(125, &["<IMAGE>"]);
    host.cli(["frobnicate"]).fails(125, &["unrecognized"]);
}
