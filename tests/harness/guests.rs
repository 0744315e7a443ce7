//! The guests that `modules/build` makes.

use std::path::PathBuf;

use super::tool;

/// The path of a guest, such as `hello.p1`.
pub fn guest(name: &str) -> String {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../../target/guests/{name}.wasm"));
    assert!(path.exists(), "{} is missing: modules/build makes it", path.display());
    path.canonicalize().expect("it exists").display().to_string()
}

/// A native program: says what it was told, sleeps for ever or ends with a code.
const NATIVE: &str = r#"#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
  if (argc > 1 && !strcmp(argv[1], "exit")) return atoi(argv[2]);
  printf("native %s\n", argc > 1 ? argv[1] : "");
  fflush(stdout);
  if (argc > 1 && !strcmp(argv[1], "sleep")) for (;;) pause();
  return 0;
}"#;

/// The native program, linked statically.
pub fn native_program() -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, program) = (folder.path().join("native.c"), folder.path().join("native"));
    std::fs::write(&source, NATIVE).expect("written");
    tool("cc", ["-static".as_ref(), "-o".as_ref(), program.as_os_str(), source.as_os_str()]);
    std::fs::read(program).expect("it was built")
}
