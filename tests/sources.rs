//! Images that come from files and folders, and go there.

use crate::harness::{Auth, DockerRegistry, Host, guest, printing, printing_wasm, tar, tool};

#[test]
fn files_run_as_they_are() {
    let host = Host::new();
    let wat = host.file("a.wat", printing("text"));
    let wasm = host.file("a.wasm", printing_wasm("binary"));
    assert_eq!(host.cli(["run", &wat]).success().stdout, "text\n");
    assert_eq!(host.cli(["run", &wasm]).success().stdout, "binary\n");
    host.cli(["run", "./none.wasm"]).fails(127, &["cannot read ./none.wasm"]);
    let broken = host.file("b.wat", "(module");
    host.cli(["run", &broken]).fails(126, &["not valid WebAssembly text"]);
    let invalid = host.file("c.wasm", b"\0asm\x01\0\0\0\xff\xff");
    host.cli(["run", &invalid]).fails(126, &["mote: the program does not compile: failed"]);
}

#[test]
fn an_image_is_saved_loaded_and_run_from_its_archive() {
    let host = Host::new();
    host.import("acme/hello:1", &printing("archived"));
    let archive = host.path("hello.tar").display().to_string();
    host.cli(["save", "-o", &archive, "acme/hello:1"]).success();
    let other = Host::new();
    let loaded = other.cli(["load", "-i", &archive]).success().stdout;
    assert_eq!(loaded, "Loaded image: acme/hello:1\n");
    assert_eq!(
        other.cli(["run", "--pull", "never", "acme/hello:1"]).success().stdout,
        "archived\n"
    );
    let third = Host::new();
    assert_eq!(
        third.cli(["run", &format!("oci-archive:{archive}")]).success().stdout,
        "archived\n"
    );
    assert_eq!(
        third.cli(["images", "-q"]).success().stdout,
        "",
        "run from an archive gives no name"
    );
}

#[test]
fn a_damaged_image_is_not_saved_and_is_mended_by_loading_it() {
    let host = Host::new();
    host.import("acme/hello:1", &printing("archived"));
    let archive = host.path("hello.tar").display().to_string();
    host.cli(["save", "-o", &archive, "acme/hello:1"]).success();
    let digest =
        host.cli(["inspect", "-f", "{{.Program.Digest}}", "acme/hello:1"]).success().stdout;
    let blob = host.path(&format!("root/images/blobs/{}", digest.trim().replace(':', "/")));
    let mut bytes = std::fs::read(&blob).expect("a blob");
    bytes[20] ^= 1;
    std::fs::write(&blob, bytes).expect("damaged");
    let other = host.path("other.tar").display().to_string();
    host.cli(["save", "-o", &other, "acme/hello:1"]).fails(125, &["is damaged", "--repair"]);
    assert!(
        !host.left(".").iter().any(|name| name.contains("other.tar") || name.contains("mote-save"))
    );
    host.cli(["load", "-i", &archive]).success();
    host.cli(["system", "check"]).success();
}

#[test]
fn archives_go_through_pipes() {
    let host = Host::new();
    host.import("acme/hello:1", &printing("piped"));
    let output = host.command(["save", "acme/hello:1"]).output().expect("saved");
    let other = Host::new();
    let mut load = other.command(["load"]);
    load.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = load.spawn().expect("started");
    std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), &output.stdout)
        .expect("written");
    let said = child.wait_with_output().expect("loaded").stdout;
    assert_eq!(String::from_utf8_lossy(&said), "Loaded image: acme/hello:1\n");
    assert_eq!(other.cli(["run", "--pull", "never", "acme/hello:1"]).success().stdout, "piped\n");
    // Packed, cut off, empty, and something else.
    let file = other.file("a.tar", &output.stdout);
    tool("gzip", ["-k", &file]);
    other.cli(["rmi", "-a"]).success();
    other.cli(["load", "-i", &format!("{file}.gz")]).success();
    assert_eq!(other.cli(["run", "--pull", "never", "acme/hello:1"]).success().stdout, "piped\n");
    let cut = other.file("cut.tar", &output.stdout[..700]);
    other.cli(["load", "-i", &cut]).fails(125, &["is cut off within blobs/"]);
    let wrong = other.file("wrong.tar", "x".repeat(1000));
    other.cli(["load", "-i", &wrong]).fails(125, &["is not a tar archive"]);
    other.cli(["load"]).fails(125, &["standard input is empty"]);
}

#[test]
fn an_image_without_a_name_is_kept_and_listed() {
    let host = Host::new();
    host.import("acme/hello:1", &printing("nameless"));
    let layout = host.path("layout").display().to_string();
    let store = host.path("root/images").display().to_string();
    tool(
        "skopeo",
        ["copy", &format!("oci:{store}:docker.io/acme/hello:1"), &format!("oci:{layout}:v2")],
    );
    let archive = host.path("tagged.tar").display().to_string();
    tool("skopeo", ["copy", &format!("oci:{layout}:v2"), &format!("oci-archive:{archive}:v2")]);
    let other = Host::new();
    let bytes = std::fs::File::open(&archive).expect("an archive");
    let said = other.command(["load"]).stdin(bytes).output().expect("loaded").stdout;
    assert!(String::from_utf8_lossy(&said).starts_with("Loaded image: sha256:"), "{said:?}");
    let id = other.cli(["images", "-q"]).success().stdout.trim().to_owned();
    other.cli(["rmi", "none:1"]).fails(1, &["No such image: none:1"]);
    assert_eq!(other.cli(["run", &id]).success().stdout, "nameless\n");
    assert_eq!(
        other.cli(["rmi", &id]).success().stdout.trim().len(),
        "Deleted: sha256:".len() + 64
    );
    assert_eq!(other.cli(["images", "-q"]).success().stdout, "");
}

#[test]
fn an_archive_goes_where_it_is_sent() {
    let host = Host::new();
    host.import("acme/hello:1", &printing("sent"));
    let pipe = host.path("pipe");
    tool("mkfifo", [&pipe]);
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::read(pipe).expect("read").len()
    });
    host.cli(["save", "-o", &pipe.display().to_string(), "acme/hello:1"]).success();
    assert!(reader.join().expect("read") > 1000, "a pipe stays a pipe");
    host.cli(["save", "-o", "/dev/null", "acme/hello:1"]).success();
    let (file, link) = (host.file("real.tar", ""), host.path("link.tar"));
    std::os::unix::fs::symlink(&file, &link).expect("linked");
    host.cli(["save", "-o", &link.display().to_string(), "acme/hello:1"]).success();
    assert!(link.is_symlink() && std::fs::metadata(&file).expect("a file").len() > 1000);
}

#[test]
fn what_is_pulled_from_a_folder_or_an_archive_gets_a_name() {
    let host = Host::new();
    host.import("acme/hello:1", &printing("named"));
    let store = host.path("root/images").display().to_string();
    let archive = host.path("whole.tar").display().to_string();
    host.cli(["save", "-o", &archive, "acme/hello:1"]).success();
    let layout = host.path("layout").display().to_string();
    let from = format!("oci:{store}:docker.io/acme/hello:1");
    tool("skopeo", ["copy", &from, &format!("oci:{layout}:v2")]);
    let other = Host::new();
    for (source, name) in [
        (format!("oci:{layout}"), "localhost/layout:v2"),
        (format!("oci-archive:{archive}"), "acme/hello:1"),
    ] {
        other.cli(["pull", &source]).success();
        assert_eq!(other.cli(["run", "--pull", "never", name]).success().stdout, "named\n");
    }
}

#[test]
fn skopeo_reads_the_store_and_mote_reads_skopeos_layouts() {
    let (host, registry) = (Host::new(), DockerRegistry::start(Auth::Open));
    host.import("acme/hello:1", &printing("copied"));
    let store = host.path("root/images").display().to_string();
    let image = registry.image("hello:1");
    let from = format!("oci:{store}:docker.io/acme/hello:1");
    tool("skopeo", ["copy", "--dest-tls-verify=false", &from, &format!("docker://{image}")]);
    assert_eq!(host.cli(["run", &image]).success().stdout, "copied\n");
    let layout = host.path("layout").display().to_string();
    tool(
        "skopeo",
        [
            "copy",
            "--src-tls-verify=false",
            &format!("docker://{image}"),
            &format!("oci:{layout}:tagged"),
        ],
    );
    assert_eq!(host.cli(["run", &format!("oci:{layout}:tagged")]).success().stdout, "copied\n");
    host.cli(["run", &format!("oci:{layout}:other")]).fails(127, &["no image `other`", "tagged"]);
    let archive = host.path("a.tar").display().to_string();
    tool("skopeo", ["copy", &format!("oci:{layout}:tagged"), &format!("oci-archive:{archive}:x")]);
    assert_eq!(host.cli(["run", &format!("oci-archive:{archive}")]).success().stdout, "copied\n");
}

#[test]
fn umoci_reads_the_store() {
    let host = Host::new();
    host.import("acme/hello:1", &printing("x"));
    let store = host.path("root/images").display().to_string();
    let listed = tool("umoci", ["ls", "--layout", &store]);
    assert!(listed.contains("docker.io/acme/hello:1"), "{listed}");
}

#[test]
fn an_archive_of_docker_save_runs() {
    let host = Host::new();
    let layer = tar(&[("app.wasm", &printing_wasm("from docker"))]);
    let diff_id = crate::harness::sha256(&layer);
    let config = format!(
        r#"{{"architecture":"wasm","os":"wasi","config":{{"Entrypoint":["/app.wasm"]}},"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
    );
    let manifest = r#"[{"Config":"c.json","RepoTags":["acme/docker:1"],"Layers":["l/layer.tar"]}]"#;
    let archive = tar(&[
        ("l/layer.tar", &layer),
        ("c.json", config.as_bytes()),
        ("manifest.json", manifest.as_bytes()),
    ]);
    let file = host.file("docker.tar", archive);
    assert_eq!(
        host.cli(["run", &format!("docker-archive:{file}")]).success().stdout,
        "from docker\n"
    );
    host.cli(["load", "-i", &file]).success();
    assert_eq!(
        host.cli(["run", "--pull", "never", "acme/docker:1"]).success().stdout,
        "from docker\n"
    );
}

#[test]
fn an_images_own_files_are_read_and_changed_only_in_a_copy() {
    let host = Host::new();
    for name in ["p1", "p2"] {
        let read = std::fs::read(guest(&format!("read.{name}"))).expect("a guest");
        let write = std::fs::read(guest(&format!("write.{name}"))).expect("a guest");
        let layer =
            tar(&[("app.wasm", &read), ("write.wasm", &write), ("etc/note", b"from the image")]);
        let config = r#"{"architecture":"wasm","os":"wasi","config":{"Entrypoint":["/app.wasm"]}}"#;
        let manifest = r#"[{"Config":"c.json","RepoTags":["files:1"],"Layers":["layer.tar"]}]"#;
        let archive = tar(&[
            ("layer.tar", &layer),
            ("c.json", config.as_bytes()),
            ("manifest.json", manifest.as_bytes()),
        ]);
        let file = host.file("files.tar", archive);
        host.cli(["load", "-i", &file]).success();
        let note = ["run", "files:1", "/etc/note"];
        assert_eq!(host.cli(note).success().stdout, "/etc/note: from the image\n");
        let read_only = host.cli(["run", "--read-only", "files:1", "/etc/note"]).success();
        assert_eq!(read_only.stdout, "/etc/note: from the image\n");
        let write = |flags: &[&str]| {
            let entry = ["--entrypoint", "/write.wasm", "files:1", "/etc/note", "3"];
            host.cli([&["run"], flags, &entry].concat()).success().stdout
        };
        assert_eq!(write(&[]), "wrote 3\n");
        assert!(write(&["--read-only"]).starts_with("cannot open"));
        assert_eq!(
            host.cli(note).success().stdout,
            "/etc/note: from the image\n",
            "the image is as it was"
        );
        host.cli(["rmi", "files:1"]).success();
    }
}

#[test]
fn what_is_written_to_a_copy_of_the_image_is_bounded_unasked() {
    let host = Host::new();
    let write = std::fs::read(guest("write.p1")).expect("a guest");
    let layer = tar(&[("app.wasm", &write)]);
    let config = r#"{"architecture":"wasm","os":"wasi","config":{"Entrypoint":["/app.wasm"]}}"#;
    let manifest = r#"[{"Config":"c.json","RepoTags":["w:1"],"Layers":["layer.tar"]}]"#;
    let files: [(&str, &[u8]); 3] = [
        ("layer.tar", &layer),
        ("c.json", config.as_bytes()),
        ("manifest.json", manifest.as_bytes()),
    ];
    let file = host.file("w.tar", tar(&files));
    host.cli(["load", "-i", &file]).success();
    let out = host.cli(["run", "w:1", "/x", "100000000"]).success();
    assert_eq!(out.stdout, format!("wrote {}, then StorageFull\n", (64 << 20) / 1000 * 1000));
    let out = host.cli(["run", "--storage-opt", "size=100m", "w:1", "/x", "80000000"]).success();
    assert_eq!(out.stdout, "wrote 80000000\n");
}

#[test]
fn a_hash_in_an_argument_is_only_an_argument() {
    let host = Host::new();
    host.cli(["import", &guest("hello.p1"), "hello:1"]).success();
    let out = host.cli(["run", "hello:1", "https://x/#y"]).success();
    assert_eq!(out.stdout, "hello from hello https://x/#y\n");
}

/// Docker 25 writes an index whose entries are `null` beside the list of images in its own form.
#[test]
fn an_archive_with_an_index_without_entries_is_loaded_by_its_other_list() {
    let host = Host::new();
    let config = br#"{"architecture":"wasm","os":"wasip1","config":{"Entrypoint":["/app.wasm"]}}"#;
    let layer = tar(&[("app.wasm", &printing_wasm("loaded"))]);
    let list = br#"[{"Config":"config.json","RepoTags":["hello:25"],"Layers":["layer.tar"]}]"#;
    let archive = tar(&[
        ("index.json", br#"{"schemaVersion":2,"manifests":null}"#),
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
        ("manifest.json", list),
        ("config.json", config),
        ("layer.tar", &layer),
    ]);
    let archive = host.file("save.tar", archive);
    host.cli(["load", "-i", &archive]).success();
    assert_eq!(host.cli(["run", "hello:25"]).success().stdout, "loaded\n");
}

/// A byte order mark is no part of the first variable's name.
#[test]
fn a_byte_order_mark_in_a_file_of_variables_is_skipped() {
    let host = Host::new();
    let file = host.file("bom.env", "\u{feff}BOM=1\n");
    let out = host.cli(["run", "--env-file", &file, &guest("env.p1")]).success();
    assert!(out.stdout.lines().any(|line| line == "BOM=1"), "{out:?}");
}
