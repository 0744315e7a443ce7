//! The directions in which crates may depend on each other, and other promises about the source.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Which crates of the workspace each may use.
const ALLOWED: &[(&str, &[&str])] = &[
    ("mote-spec", &[]),
    ("mote-image", &["mote-spec"]),
    ("mote-registry", &["mote-spec", "mote-image"]),
    ("mote-engine", &["mote-spec"]),
    ("mote-lifecycle", &["mote-spec", "mote-engine"]),
    ("mote-daemon", &["mote-spec", "mote-image", "mote-registry", "mote-engine", "mote-lifecycle"]),
    ("mote-shim", &["mote-spec", "mote-image", "mote-engine", "mote-lifecycle"]),
    (
        "mote-cli",
        &[
            "mote-spec",
            "mote-image",
            "mote-registry",
            "mote-engine",
            "mote-lifecycle",
            "mote-daemon",
        ],
    ),
];

fn workspace() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn dependencies_point_one_way() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(workspace())
        .output()
        .expect("cargo");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name");
        let may =
            allowed.get(name).unwrap_or_else(|| panic!("{name} is not in the list of crates"));
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let used = dependency["name"].as_str().expect("a name");
            let is_normal = dependency["kind"].is_null();
            assert!(
                !is_normal || !used.starts_with("mote-") || may.contains(&used),
                "{name} uses {used}"
            );
            let engine_only = used.starts_with("wasmtime") || used == "wiggle";
            assert!(
                !engine_only || name == "mote-engine",
                "only the engine names wasmtime: {name}"
            );
        }
    }
}

/// Every Rust file of the crates, with its text.
fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut folders = vec![workspace().join("runtime"), workspace().join("shim")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                files.push((
                    path.display().to_string(),
                    std::fs::read_to_string(&path).expect("text"),
                ));
            }
        }
    }
    files
}

fn files_with(text: &str) -> Vec<String> {
    let root = format!("{}/", workspace().display());
    let short = |path: &String| {
        let path = path.strip_prefix(&root).unwrap_or(path);
        path.strip_prefix("runtime/").unwrap_or(path).to_owned()
    };
    let mut files: Vec<String> = sources()
        .iter()
        .filter(|(_, content)| content.contains(text))
        .map(|(path, _)| short(path))
        .collect();
    files.sort();
    files
}

#[test]
fn one_place_builds_a_sandbox_and_one_opens_what_is_granted() {
    assert_eq!(files_with("Store::new("), ["engine/src/sandbox.rs"]);
    assert_eq!(files_with("Config::new()"), ["engine/src/config.rs"]);
    assert_eq!(files_with("deserialize_file("), ["engine/src/module.rs"]);
    assert_eq!(files_with("Module::deserialize("), ["engine/src/config.rs"], "in a test");
    assert_eq!(files_with(".status.after("), ["lifecycle/src/record.rs"]);
    // The other removes what a guest or an image has made.
    let opens = ["engine/src/handles.rs", "image/src/deep_tree.rs"];
    assert_eq!(files_with("OFlags::DIRECTORY"), opens);
}

/// What plays escapes is in tests, and never in what is shipped.
#[test]
fn the_way_out_of_the_sandbox_is_for_tests_alone() {
    let manifests = ["runtime/daemon", "runtime/lifecycle", "shim", "runtime/cli"];
    for manifest in manifests {
        let path = workspace().join(manifest).join("Cargo.toml");
        let text = std::fs::read_to_string(path).expect("a manifest");
        let shipped = text.split("[dev-dependencies]").next().expect("a first part");
        assert!(!shipped.contains("escape-hook"), "{manifest}");
    }
    let engine = std::fs::read_to_string(workspace().join("runtime/engine/Cargo.toml"));
    assert!(engine.expect("a manifest").contains("default = [\"compiler\"]"));
}

#[test]
fn every_file_says_what_it_is_for() {
    for (path, text) in sources() {
        assert!(text.starts_with("//!"), "{path} does not open with //!");
    }
}

#[test]
fn the_engine_is_the_one_that_the_code_cache_names() {
    let lock = std::fs::read_to_string(workspace().join("Cargo.lock")).expect("a lock file");
    let version =
        crate::harness::Host::new().cli(["version", "-f", "{{.Engine}}"]).success().stdout;
    let version = version.trim().strip_prefix("wasmtime ").expect("a version");
    let entry = format!("name = \"wasmtime\"\nversion = \"{version}\"");
    assert!(
        lock.contains(&entry),
        "mote-engine's ENGINE_VERSION is {version}, and Cargo.lock has another"
    );
}
