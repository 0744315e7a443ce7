//! Runs a Wasm program under a policy: the only crate that names wasmtime.
//!
//! ```text
//! bytes --compile--> Trusted --Module::load--> Module --run(Policy)--> Outcome
//! ```
//!
//! `profile` makes the one configuration, `sandbox` the one kind of store, `handles` turns grants
//! into open directories and sockets. Never reads the process environment, and never prints. A process that runs guests
//! has `SIGURG` for nothing else.

mod alive;
mod alone;
mod apart;
mod cache;
mod capabilities;
mod cgroup_files;
mod compile;
#[cfg(feature = "compiler")]
mod compiler;
#[cfg(not(feature = "compiler"))]
#[path = "compiler_disabled.rs"]
mod compiler;
#[cfg(feature = "compiler")]
mod compiler_switch;
#[cfg(not(feature = "compiler"))]
#[path = "compiler_switch_disabled.rs"]
mod compiler_switch;
mod config;
mod control;
mod denied;
mod describe;
mod descriptors;
mod error;
#[cfg(feature = "escape-hook")]
mod escape;
mod gauge;
mod handles;
mod harden;
mod hooks;
mod http_gate;
mod http_requests;
mod inherited;
mod launch;
mod limiter;
mod link;
mod looks;
mod mechanisms;
mod meter;
mod module;
#[cfg(feature = "compiler")]
mod names;
mod net_gate;
mod outcome;
mod pace;
mod process_signal;
mod profile;
mod quota;
mod relay;
mod root_copy;
mod run;
mod sandbox;
mod socket_end;
mod sockets;
mod sockets_p3;
mod spawner;
mod stdio;
mod tick;
mod wanted;

pub use apart::{
    Apart, Gone, Network, Order, SeccompProfile, User, Wall, WorkIn, Worker, enter_fresh_network,
    lacking_layers, work,
};
pub use cache::{Cache, CodeKey, ENGINE_VERSION, Trusted};
pub use cgroup_files::CgroupFiles;
pub use compile::{COMPILE_TIMEOUT, CompileIn, Terms, compile};
#[cfg(feature = "compiler")]
pub use compiler::compile_worker;
pub use control::Control;
pub use denied::Refusal;
pub use describe::{Description, Kind, World, describe};
pub use error::{EngineError, Fault};
pub use gauge::{Counters, Gauge};
pub use handles::RootFiles;
pub use harden::{Hosts, harden};
pub use inherited::Inherited;
pub use launch::{Blocking, Call, Launch, Process};
pub use mechanisms::{Layer, Layers};
pub use meter::look_often;
pub use module::{Engine, Module};
pub use outcome::Outcome;
pub use profile::{Checks, Company, Profile, UnknownChecks, UnknownProfile, machine_memory};
pub use run::run;
pub use spawner::{Programs, Spawner, What, serve_spawner};
pub use stdio::{Captured, Feed, Input, Output, Room, Sink, Stdio, Terminal};
pub use wanted::{Waiting, Wanted};
