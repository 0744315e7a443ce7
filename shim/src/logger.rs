//! Starts a program that takes a container's output: containerd's `binary://`, which nerdctl logs with.
//!
//! The program finds the output in its descriptors 3 and 4, and says at 5 when it is ready
//! (containerd's `core/runtime/v2/README.md`, "Logging"). It ends when both are at their end.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::error::ShimError;
use crate::paths::Paths;

/// How long it may take to be ready.
const READY: Duration = Duration::from_secs(10);

/// The ends of pipes that output is written to.
pub(crate) struct Logger {
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// What a `binary://` address names.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    program: String,
    args: Vec<String>,
}

/// The address of a logger, if output goes to one.
pub(crate) fn address(uri: &str) -> Option<&str> {
    uri.strip_prefix("binary://").or_else(|| uri.strip_prefix("binary-v2://"))
}

fn named(address: &str) -> Named {
    let (program, query) = address.split_once('?').unwrap_or((address, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let words = pairs.flat_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        [key, value].into_iter().filter(|word| !word.is_empty()).map(decoded)
    });
    Named { program: decoded(program), args: words.collect() }
}

/// A text as it was before it was put into an address (RFC 3986, section 2.1).
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match (first, hex.and_then(|two| u8::from_str_radix(two, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = after;
            }
            (byte, _) => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Starts the logger that an address names.
pub(crate) fn start(address: &str, paths: &Paths) -> Result<Logger, ShimError> {
    let Named { program, args } = named(address);
    let failed = |source: io::Error| ShimError::File { path: program.clone().into(), source };
    let (stdout_end, stdout) = io::pipe().map_err(failed)?;
    let (stderr_end, stderr) = io::pipe().map_err(failed)?;
    let (ready, ready_end) = io::pipe().map_err(failed)?;
    let mut command = Command::new(&program);
    command
        .args(args)
        .env_clear()
        .env("CONTAINER_ID", &paths.container)
        .env("CONTAINER_NAMESPACE", &paths.namespace)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let ends: [OwnedFd; 3] = [stdout_end.into(), stderr_end.into(), ready_end.into()];
    let mappings = ends.into_iter().zip(3..);
    let mappings = mappings.map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
    command.fd_mappings(mappings.collect()).map_err(|error| failed(io::Error::other(error)))?;
    paths.network.hold(&mut command);
    let child = tokio::process::Command::from(command).spawn().map_err(failed)?;
    let ready = pipe::Receiver::from_owned_fd(ready.into()).map_err(failed)?;
    tokio::spawn(see_to_end(child, ready, program));
    Ok(Logger { stdout: stdout.into(), stderr: stderr.into() })
}

/// Waits until it is ready, which it says by a byte or by closing the pipe, and then for its end.
async fn see_to_end(mut child: tokio::process::Child, mut ready: pipe::Receiver, program: String) {
    let is_ready = async {
        if tokio::time::timeout(READY, ready.read(&mut [0])).await.is_err() {
            tracing::warn!(program, "a logger does not say that it is ready");
        }
    };
    // It may end without ever being ready.
    let ((), ended) = tokio::join!(is_ready, child.wait());
    match ended {
        Ok(status) if status.success() => {}
        Ok(status) => tracing::warn!(program, %status, "a logger has failed"),
        Err(error) => tracing::warn!(program, %error, "a logger cannot be waited for"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_program_and_its_arguments() {
        assert_eq!(address("binary:///bin/log?a=b"), Some("/bin/log?a=b"));
        assert_eq!(address("/run/fifo"), None);
        let log = named("/bin/my%20log?_NERDCTL=%2Fvar%2Flib&x=");
        let expected = Named {
            program: "/bin/my log".into(),
            args: vec!["_NERDCTL".into(), "/var/lib".into(), "x".into()],
        };
        assert_eq!(log, expected);
    }
}
