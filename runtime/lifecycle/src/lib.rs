//! What a container may do next, and remembering it.
//!
//! ```text
//! Command --driver--> status::after --Keep::save--> engine
//! record + free lock --recovery--> what to do after a crash
//! ```
//!
//! A status changes only in the pure function of `status`; `driver` is its only caller, and it saves
//! before it acts. Never prints, and never reads the process environment.

mod driver;
mod live;
mod logs;
mod pool;
mod record;
mod records;
mod recovery;
mod restart;
mod status;

pub use driver::{Container, DriveError, Ended, Keep, Running, Workload};
pub use live::{Answer, Ask, Live, LiveError, Place, Served, Usage};
pub use logs::{Line, LogWriter, Rotation, Stream, Wish, read_log};
pub use pool::{NoRoom, Pool, Resource, Resources};
pub use record::{Image, Made, Record, Time, Wanted};
pub use records::{Records, RecordsError};
pub use recovery::{Host, Recovery, recover};
pub use restart::{Backoff, RestartError, RestartPolicy};
pub use status::{Event, Refused, Status};
