//! Every layout of images in the wild, made by the tools that make them.

use crate::harness::{Auth, DockerRegistry, Host, printing, printing_wasm, run, tool};
use std::process::Command;

const CNCF_CONFIG: &str = "application/vnd.wasm.config.v0+json";

/// Pushes one module with oras, and runs it.
#[track_caller]
fn oras_image_runs(config: Option<(&str, &str)>, layer: &str) {
    let (host, registry) = (Host::new(), DockerRegistry::start(Auth::Open));
    host.file("push/app.wasm", printing_wasm("found"));
    let config = config.map(|(media_type, text)| {
        host.file("push/config.json", text);
        format!("config.json:{media_type}")
    });
    // Without a type, as most people push, oras calls the file a tar.
    let layer = if layer.is_empty() { "app.wasm".to_owned() } else { format!("app.wasm:{layer}") };
    let image = registry.oras_push(&host.folder("push"), "app:1", config.as_deref(), &[&layer]);
    assert_eq!(host.cli(["run", &image]).success().stdout, "found\n");
}

#[test]
fn the_cncf_artifact() {
    oras_image_runs(
        Some((CNCF_CONFIG, r#"{"architecture":"wasm","os":"wasip1"}"#)),
        "application/wasm",
    );
}

#[test]
fn runwasis_oci_image() {
    let config = r#"{"architecture":"wasm","os":"wasip1","config":{"Entrypoint":["/app.wasm"]},"rootfs":{"type":"layers","diff_ids":[]}}"#;
    oras_image_runs(
        Some(("application/vnd.oci.image.config.v1+json", config)),
        "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
    );
}

#[test]
fn wasm_to_oci_and_krustlet() {
    oras_image_runs(
        Some(("application/vnd.wasm.config.v1+json", "{}")),
        "application/vnd.wasm.content.layer.v1+wasm",
    );
}

#[test]
fn solo_and_istio() {
    oras_image_runs(
        Some(("application/vnd.module.wasm.config.v1+json", "null")),
        "application/vnd.module.wasm.content.layer.v1+wasm",
    );
}

#[test]
fn a_bare_oras_push() {
    oras_image_runs(None, "application/wasm");
    oras_image_runs(None, "application/octet-stream");
    oras_image_runs(None, "");
}

/// Builds an image of layers with buildah; `settings` go to `buildah config`.
fn buildah(
    host: &Host,
    registry: &DockerRegistry,
    files: &[(&str, Vec<u8>)],
    settings: &[&str],
    push: &[&str],
) -> String {
    let image = registry.image("built:1");
    let storage = [
        "--root".to_owned(),
        host.folder("buildah"),
        "--runroot".to_owned(),
        host.folder("buildah-run"),
        "--storage-driver".to_owned(),
        "vfs".to_owned(),
    ];
    let buildah = |args: &[&str]| {
        let mut command = Command::new("buildah");
        command.args(&storage).args(args);
        run(&mut command).success().stdout.trim().to_owned()
    };
    let container = buildah(&["from", "scratch"]);
    for (name, bytes) in files {
        let file = host.file(&format!("build/{}", name.replace('/', "_")), bytes);
        buildah(&["copy", &container, &file, &format!("/{name}")]);
    }
    buildah(&[&["config", "--os", "wasi", "--arch", "wasm"], settings, &[&container]].concat());
    let id = buildah(&["commit", "--format", "oci", &container]);
    let target = format!("docker://{image}");
    buildah(&[&["push", "--tls-verify=false"], push, &[&id, &target]].concat());
    image
}

#[test]
fn an_image_of_tar_layers_by_buildah() {
    for push in [
        &["--compression-format", "gzip"][..],
        &["--compression-format", "zstd"],
        &["--format", "v2s2"],
    ] {
        let (host, registry) = (Host::new(), DockerRegistry::start(Auth::Open));
        let files =
            [("app.wasm", printing_wasm("from a file system")), ("data.txt", b"x".to_vec())];
        let image = buildah(&host, &registry, &files, &["--entrypoint", r#"["/app.wasm"]"#], push);
        assert_eq!(host.cli(["run", &image]).success().stdout, "from a file system\n", "{push:?}");
        assert_eq!(host.cli(["run", &image]).success().stdout, "from a file system\n", "again");
    }
}

#[test]
fn the_program_is_the_command_or_the_only_wasm_file() {
    let (host, registry) = (Host::new(), DockerRegistry::start(Auth::Open));
    let files = [("bin/app.wasm", printing_wasm("by command"))];
    let image =
        buildah(&host, &registry, &files, &["--workingdir", "/bin", "--cmd", "app.wasm"], &[]);
    assert_eq!(host.cli(["run", &image]).success().stdout, "by command\n");
    let image = buildah(&host, &registry, &files, &["--cmd", ""], &[]);
    assert_eq!(host.cli(["run", "--pull", "always", &image]).success().stdout, "by command\n");
    host.cli(["run", "--entrypoint", "/none.wasm", &image])
        .fails(127, &["has no file `/none.wasm`", "--entrypoint"]);
}

#[test]
fn an_image_made_by_umoci() {
    let (host, registry) = (Host::new(), DockerRegistry::start(Auth::Open));
    let (layout, bundle) =
        (host.path("layout").display().to_string(), host.path("bundle").display().to_string());
    let tagged = format!("{layout}:1");
    tool("umoci", ["init", "--layout", &layout]);
    tool("umoci", ["new", "--image", &tagged]);
    tool("umoci", ["unpack", "--image", &tagged, &bundle]);
    host.file("bundle/rootfs/app.wasm", printing_wasm("by umoci"));
    tool("umoci", ["repack", "--image", &tagged, &bundle]);
    tool("umoci", ["config", "--image", &tagged, "--config.entrypoint", "/app.wasm"]);
    assert_eq!(host.cli(["run", &format!("oci:{layout}")]).success().stdout, "by umoci\n");
    let image = registry.image("umoci:1");
    let target = format!("docker://{image}");
    tool("skopeo", ["copy", "--dest-tls-verify=false", &format!("oci:{layout}:1"), &target]);
    assert_eq!(host.cli(["run", &image]).success().stdout, "by umoci\n");
}

#[test]
fn a_native_image_is_refused_by_the_name_of_its_platform() {
    let (host, registry) = (Host::new(), DockerRegistry::start(Auth::Open));
    let shell = std::fs::read("/bin/true").expect("a native program");
    let image =
        buildah(&host, &registry, &[("true", shell)], &["--entrypoint", r#"["/true"]"#], &[]);
    host.cli(["run", &image])
        .fails(126, &["holds a native program for linux/", "mote runs Wasm", "wasm32-wasip1"]);
}

#[test]
fn what_looks_compiled_is_not_loaded() {
    let (host, registry) = (Host::new(), DockerRegistry::start(Auth::Open));
    host.import("local:1", &printing("x"));
    let compiled = host
        .left("root/compiled")
        .into_iter()
        .find(|name| name.ends_with(".cwasm"))
        .expect("compiled");
    std::fs::create_dir_all(host.path("push")).expect("made");
    std::fs::copy(compiled, host.path("push/app.wasm")).expect("copied");
    let image =
        registry.oras_push(&host.folder("push"), "evil:1", None, &["app.wasm:application/wasm"]);
    host.cli(["run", &image]).fails(126, &["native program"]);
}

#[test]
fn text_and_garbage_in_an_image_are_refused() {
    for (content, says) in [("(module)", "WebAssembly text"), ("hello", "is not Wasm")] {
        let (host, registry) = (Host::new(), DockerRegistry::start(Auth::Open));
        host.file("push/app.wasm", content);
        let image =
            registry.oras_push(&host.folder("push"), "bad:1", None, &["app.wasm:application/wasm"]);
        host.cli(["run", &image]).fails(126, &[says]);
    }
}

#[test]
fn several_modules_and_foreign_archives_are_refused_before_they_are_downloaded() {
    let (host, registry) = (Host::new(), DockerRegistry::start(Auth::Open));
    host.file("push/a.wasm", printing_wasm("a"));
    host.file("push/b.wasm", printing_wasm("b"));
    let folder = host.folder("push");
    let image = registry.oras_push(
        &folder,
        "two:1",
        None,
        &["a.wasm:application/wasm", "b.wasm:application/wasm"],
    );
    host.cli(["run", &image]).fails(126, &["2 Wasm layers"]);
    let provider = "a.wasm:application/vnd.wasmcloud.provider.archive.layer.v1+par";
    let image = registry.oras_push(&folder, "provider:1", None, &[provider]);
    host.cli(["run", &image]).fails(126, &["wasmCloud provider"]);
    assert!(
        !host
            .left("root/images/blobs")
            .iter()
            .any(|name| name.len() > 200 && name.contains("sha256/")),
        "nothing"
    );
}

#[test]
fn an_index_is_searched_for_wasm() {
    let (host, registry) = (Host::new(), DockerRegistry::start(Auth::Open));
    let mut children = Vec::new();
    for (name, os, architecture) in
        [("native", "linux", "amd64"), ("old", "wasip1", "wasm"), ("new", "wasip2", "wasm")]
    {
        host.file(&format!("push/{name}.wasm"), printing_wasm(name));
        let layer = format!("{name}.wasm:application/wasm");
        let image =
            registry.oras_push(&host.folder("push"), &format!("multi:{name}"), None, &[&layer]);
        let manifest = tool("oras", ["manifest", "fetch", "--plain-http", "--descriptor", &image]);
        let mut child: serde_json::Value = serde_json::from_str(&manifest).expect("JSON");
        child["platform"] = serde_json::json!({"os": os, "architecture": architecture});
        children.push(child);
    }
    let mut attestation = children[2].clone();
    attestation["platform"] = serde_json::json!({"os": "unknown", "architecture": "unknown"});
    children.insert(0, attestation);
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": children});
    let file = host.file("index.json", index.to_string());
    let image = registry.image("multi:1");
    tool(
        "oras",
        [
            "manifest",
            "push",
            "--plain-http",
            "--media-type",
            "application/vnd.oci.image.index.v1+json",
            &image,
            &file,
        ],
    );
    assert_eq!(host.cli(["run", &image]).success().stdout, "new\n");
    let old = host.cli(["run", "--pull", "always", "--platform", "wasip1/wasm", &image]).success();
    assert_eq!(old.stdout, "old\n");
    host.cli(["run", "--pull", "always", "--platform", "plan9/wasm", &image])
        .fails(126, &["no image for plan9/wasm", "wasip2/wasm"]);
}
