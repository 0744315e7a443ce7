//! `delete`: clears away what a shim left that was killed.
//!
//! Its guests were in its process, and its mounts in a namespace that went with it: what is left is its
//! socket, and what the OCI runtime has made.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

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
        && std::os::unix::net::UnixStream::connect(path).is_err()
    {
        // One that was never made is as good as gone.
        let _ = std::fs::remove_file(path);
    }
    if let Ok(read) = Bundle::read(bundle)
        && let Some(cgroup) = read.pod_cgroup(Hierarchy::of_machine(), &flags.id)
    {
        cgroup.remove();
    }
    let response = DeleteResponse {
        exit_status: KILLED,
        exited_at: Some(time::of(SystemTime::now())).into(),
        ..DeleteResponse::default()
    };
    let failed = |source| ShimError::Message { what: "the answer", source };
    response.write_to_bytes().map_err(failed)
}
