//! Names of a process's streams, as containerd gives them.

use crate::host_network::HostNetwork;

/// Where the streams of a process are; an empty one is none.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) terminal: bool,
    /// Whose they are, for a program that keeps its output.
    pub(crate) container: String,
    pub(crate) namespace: String,
    /// Where such a program runs.
    pub(crate) network: HostNetwork,
}
