//! Many containers in one process, and the API that drives them.
//!
//! ```text
//! docker | mote | any client --HTTP--> api --Daemon--> Container (lifecycle) --Guest--> engine
//!                                       ^                   |
//!                                    console <--output------+--Ledger--> records, events
//! ```
//!
//! Guests compute on threads of their own, beside the ones that answer. Never prints, and never reads
//! the process environment.

pub mod api;
mod archive;
mod console;
mod daemon;
mod entry;
mod error;
mod events;
mod exec;
mod execs;
mod guest;
mod images;
mod journal;
mod ledger;
pub mod machine;
mod metrics;
mod probe;
mod programs;
mod report;
mod request;
pub mod scratch;
mod supervise;
mod turns;
mod update;
mod volumes;

pub use daemon::{Config, Daemon, Force};
pub use error::DaemonError;
pub use images::{Images, Removed};
pub use machine::{Machine, ProgramError};
