//! The shim without a containerd: what it says to whoever asks, and to whoever starts it wrongly.
//!
//! It is a test of the shim's own package, so that whoever runs all tests has the shim built, which
//! `tests/shim.rs` and `tests/pods.rs` then start.

use std::process::{Command, Output, Stdio};

use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::types::introspection::RuntimeInfo;

fn shim(args: &[&str], folder: &std::path::Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_containerd-shim-mote-v1"));
    command.args(args).current_dir(folder).stdin(Stdio::null()).output().expect("it starts")
}

#[test]
fn it_tells_its_version_and_what_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let version = shim(&["-version"], folder.path());
    assert!(String::from_utf8_lossy(&version.stdout).contains(env!("CARGO_PKG_VERSION")));
    let info = shim(&["-info"], folder.path());
    assert!(info.status.success() && info.stderr.is_empty(), "silent where all is well");
    let info = RuntimeInfo::parse_from_bytes(&info.stdout).expect("it is understood");
    assert_eq!(info.name, "io.containerd.mote.v1");
}

#[test]
fn a_start_that_cannot_be_says_why_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let flags = ["-namespace", "test", "-address", "/nowhere", "-id", "web"];
    let start = shim(&[&flags[..], &["start"]].concat(), folder.path());
    let said = String::from_utf8_lossy(&start.stderr);
    assert!(!start.status.success() && said.contains("config.json"), "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    let wrong = shim(&["-wrong", "x", "start"], folder.path());
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("-wrong is no flag of a shim"));
    let deleted = shim(&[&flags[..], &["-bundle", "/nowhere", "delete"]].concat(), folder.path());
    assert!(deleted.status.success(), "what was never there is cleared away");
}
