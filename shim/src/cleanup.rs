//! `delete`: clears away what a shim left that was killed.
//!
//! Its guests were in its process or die with it, and its mounts were in a namespace of theirs: what is left
//! is its socket, its cgroup, and what the OCI runtime has made.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::Message;

use crate::bundle::Bundle;
use crate::error::ShimError;
use crate::flags::Flags;
use crate::metrics::Hierarchy;
use crate::native;
use crate::time;

/// The exit status of what was killed.
const KILLED: u32 = 137;

/// How long one that is being killed may take to be gone.
const SILENCE: Duration = Duration::from_millis(50);
/// How long it may take to give back its memory, after which it is in no cgroup. containerd waits for five
/// seconds for all of it.
const DYING: Duration = Duration::from_secs(2);

/// Clears away, and returns what containerd is to read.
pub(crate) fn delete(bundle: &Path, flags: &Flags, state: &Path) -> Result<Vec<u8>, ShimError> {
    if state.join(&flags.id).exists() {
        // What it says is for a person who looks; containerd reads only the answer.
        let runtime = std::fs::read_to_string(bundle.join(native::RUNTIME));
        let runtime = runtime.unwrap_or_else(|_| "runc".to_owned());
        let deleted = Command::new(&runtime)
            .arg("--root")
            .arg(state)
            .args(["delete", "--force", &flags.id])
            .stdout(Stdio::null())
            .status();
        let deleted =
            deleted.map_err(|source| ShimError::System { what: "run the OCI runtime", source })?;
        if !deleted.success() && state.join(&flags.id).exists() {
            return Err(ShimError::Invalid(format!(
                "{runtime} cannot delete {}: {deleted}",
                flags.id
            )));
        }
    }
    if let Ok(address) = std::fs::read_to_string(bundle.join("address"))
        && let Some(path) = address.trim().strip_prefix("unix://")
        && !is_served(Path::new(path))
    {
        // One that was never made is as good as gone.
        let _ = std::fs::remove_file(path);
        if let Ok(read) = Bundle::read(bundle)
            && let Some(cgroup) = read.pod_cgroup(Hierarchy::of_machine(), &flags.id)
        {
            cgroup.remove_within(DYING);
        }
    }
    let response = DeleteResponse {
        exit_status: KILLED,
        exited_at: Some(time::of(SystemTime::now())).into(),
        ..DeleteResponse::default()
    };
    let failed = |source| ShimError::Message { what: "the answer", source };
    response.write_to_bytes().map_err(failed)
}

/// Whether somebody serves at a socket. One that is being killed may still take a connection, and
/// resets it a moment later; one that lives says nothing until it is asked.
fn is_served(path: &Path) -> bool {
    UnixStream::connect(path).and_then(is_silent).unwrap_or(false)
}

fn is_silent(mut stream: UnixStream) -> io::Result<bool> {
    stream.set_read_timeout(Some(SILENCE))?;
    match stream.read_exact(&mut [0]) {
        Ok(()) => Ok(true),
        Err(error) => Ok(error.kind() == io::ErrorKind::WouldBlock),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_socket_is_served_as_long_as_somebody_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        assert!(!is_served(&path), "it was never made");
        let listener = UnixListener::bind(&path).unwrap();
        assert!(is_served(&path));
        // One that goes while it is being asked.
        let asking = UnixStream::connect(&path).unwrap();
        drop(listener);
        assert!(!is_silent(asking).unwrap());
    }
}
