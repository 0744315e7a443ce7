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

/// What a process says of itself and its guest.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Said {
    /// It is in its namespaces.
    Ready,
    /// The guest stands.
    Begun,
    Ended(Outcome),
    /// It cannot do what it was told.
    Failed(String, Fault),
}
