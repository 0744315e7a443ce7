//! The network that the shim was started in: where the machine's programs run that the shim starts after it has
//! entered the pod's, such as the OCI runtime, which sets a pod's sysctls only from outside of it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use rustix::thread::LinkNameSpaceType;

use crate::error::ShimError;

/// A network namespace.
#[derive(Debug, Clone)]
pub(crate) struct HostNetwork(Arc<File>);

impl HostNetwork {
    /// The one that this thread is in.
    pub(crate) fn here() -> Result<HostNetwork, ShimError> {
        let file = File::open("/proc/thread-self/ns/net");
        let file = file.map_err(|source| ShimError::System { what: "find the network", source })?;
        Ok(HostNetwork(Arc::new(file)))
    }

    /// The one that a process is in, which has not been waited for.
    pub(crate) fn of(pid: u32) -> Result<HostNetwork, ShimError> {
        let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
        let file = File::open(&path).map_err(|source| ShimError::File { path, source })?;
        Ok(HostNetwork(Arc::new(file)))
    }

    /// A path that stands for it, for as long as this process has it open.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }

    /// Has a program run in it.
    pub(crate) fn hold(&self, command: &mut Command) {
        use std::os::unix::process::CommandExt;
        let network = Arc::clone(&self.0);
        let enter = move || -> io::Result<()> {
            let kind = Some(LinkNameSpaceType::Network);
            Ok(rustix::thread::move_into_link_name_space(network.as_fd(), kind)?)
        };
        // SAFETY: between fork and exec it makes one system call, and allocates nothing.
        unsafe { command.pre_exec(enter) };
    }
}

#[async_trait::async_trait]
impl runc::Spawner for HostNetwork {
    async fn execute(
        &self,
        mut command: runc::Command,
    ) -> Result<(ExitStatus, u32, String, String), runc::error::Error> {
        self.hold(command.as_std_mut());
        let child = command.spawn().map_err(runc::error::Error::ProcessSpawnFailed)?;
        let pid = child.id().unwrap_or_default();
        let output = child.wait_with_output().await;
        let output = output.map_err(runc::error::Error::InvalidCommand)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok((output.status, pid, text(output.stdout), text(output.stderr)))
    }
}
