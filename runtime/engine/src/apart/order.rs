//! Messages between a host and the process of a guest: the order to run it, and its reports.

use std::path::PathBuf;

use mote_spec::{Digest, Policy};
use serde::{Deserialize, Serialize};

use super::wall::Wall;
use crate::error::Fault;
use crate::handles::RootFiles;
use crate::launch::Process;
use crate::outcome::Outcome;
use crate::profile::{Checks, Profile};
use crate::stdio::Terminal;

/// Order to run a guest.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// The code cache, which has the program.
    pub cache: PathBuf,
    pub program: Digest,
    pub profile: Profile,
    pub checks: Checks,
    pub policy: Policy,
    pub process: Process,
    pub root: Option<RootFiles>,
    /// An empty folder of the container's own, where it needs one.
    pub scratch: Option<PathBuf>,
    pub terminal: Terminal,
    pub wall: Wall,
}

/// Report of a guest's process to its host.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Said {
    /// The process is in its namespaces.
    Ready,
    /// The guest is instantiated, and its entry point runs next.
    Begun,
    Ended(Outcome),
    /// The process cannot carry out its order.
    Failed(String, Fault),
}
