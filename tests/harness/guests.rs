//! The guests that `modules/build` makes.

use std::path::PathBuf;

/// The path of a guest, such as `hello.p1`.
pub fn guest(name: &str) -> String {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../../target/guests/{name}.wasm"));
    assert!(path.exists(), "{} is missing: modules/build makes it", path.display());
    path.canonicalize().expect("it exists").display().to_string()
}
