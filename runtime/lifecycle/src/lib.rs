//! What a container may do next, and remembering it.
//!
//! ```text
//! Command --driver--> status::after --Keep::save--> engine
//! record + free lock --recovery--> what to do after a crash
//! ```
//!
//! A status changes only in the pure function of `status`; `driver` is its only caller, and it saves
//! before it acts. Never prints, and never reads the process environment.

mod command;
mod container;
mod driver;
mod health;
mod keep;
mod live;
mod logs;
mod pool;
mod record;
#[cfg(feature = "records")]
mod records;
mod recovery;
mod restart;
mod setup;
mod status;
mod time;
mod workload;

pub use command::{Change, DriveError};
pub use container::Container;
pub use health::{Health, HealthCheck, HealthStatus, OnFailure, Probe, Probed};
pub use keep::{Keep, RecordsError};
pub use live::{Answer, Ask, Live, LiveError, Place, Served, Usage};
pub use logs::{Line, Lines, LogReader, LogWriter, Rotation, Stream, Wish, remove_log};
pub use pool::{NoRoom, Pool, Resource, Resources};
pub use record::{Files, Image, Made, Record};
#[cfg(feature = "records")]
pub use records::Records;
pub use recovery::{Host, Recovery, recover};
pub use restart::{Backoff, DesiredState, RestartError, RestartPolicy};
pub use setup::{Grace, LogDriver, LogSetup, Removal, Setup, Stdin, Stop, Talks};
pub use status::{Event, Refused, Status};
pub use time::Time;
pub use workload::{Ended, Running, Workload};
