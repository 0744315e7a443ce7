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

/// A native program: says what it was told, sleeps for ever, ends with a code, asks a port of its own
/// machine, or tells whether it has a terminal and how wide that is.
const NATIVE: &str = r#"#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
static int ask(int port) {
  struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(fd, (struct sockaddr *)&to, sizeof to)) return 1;
  char answer[64]; ssize_t got;
  if (write(fd, "hi", 2) != 2 || shutdown(fd, SHUT_WR)) return 1;
  while ((got = read(fd, answer, sizeof answer)) > 0) fwrite(answer, 1, got, stdout);
  return 0;
}
static int terminal(void) {
  struct winsize size = { 0 };
  char word[16];
  if (!isatty(0)) return 1;
  printf("ready\n"); fflush(stdout);
  while (fgets(word, sizeof word, stdin) && word[0] != 'q') {
    ioctl(0, TIOCGWINSZ, &size);
    printf("columns %d\n", size.ws_col); fflush(stdout);
  }
  return 0;
}
int main(int argc, char **argv) {
  if (argc > 2 && !strcmp(argv[1], "ask")) return ask(atoi(argv[2]));
  if (argc > 1 && !strcmp(argv[1], "terminal")) return terminal();
  if (argc > 1 && !strcmp(argv[1], "exit")) return atoi(argv[2]);
  printf("native %s\n", argc > 1 ? argv[1] : "");
  fflush(stdout);
  if (strstr(argv[0], "sleep") || (argc > 1 && !strcmp(argv[1], "sleep"))) for (;;) pause();
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
