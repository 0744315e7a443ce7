//! Why a program cannot be compiled, loaded or started. How a guest ended is never an error.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mote_spec::Bytes;
use serde::{Deserialize, Serialize};

use crate::mechanisms::{Layer, listed};
use crate::profile::Profile;

/// Why the engine did not start a program.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("cannot set up the {profile} engine")]
    Setup { profile: Profile, source: wasmtime::Error },
    #[error("the program does not compile")]
    Compile { source: wasmtime::Error },
    #[error("the compiler did not finish: {said}")]
    Compiler { said: String },
    #[error(
        "the program takes longer to compile than the limit of {} ([engine] compile_timeout)",
        humantime::format_duration(*.limit)
    )]
    CompilerTimedOut { limit: Duration },
    #[error("the program is not compiled: its client has gone")]
    Unwanted,
    #[error("{said}")]
    Rejected { said: String },
    #[error("the program is neither a core module nor a component")]
    NotWasm,
    #[error("cannot use the code cache at {path}")]
    Cache { path: PathBuf, source: io::Error },
    #[error("the compiled program does not load")]
    Load { source: wasmtime::Error },
    #[error("the program imports {name}, which mote does not provide")]
    Import { name: String },
    #[error("the program is {what}")]
    World { what: &'static str },
    #[error("the program has no function `{name}`; it has {has}")]
    NoExport { name: String, has: String },
    #[error("`{text}` is not a call of `{name}`: {why}")]
    Call { name: String, text: String, why: String },
    #[error("cannot grant the directory {path}")]
    Directory { path: PathBuf, source: io::Error },
    #[error("the directory {path} is a link to {real}; grant that by its own name")]
    Link { path: PathBuf, real: PathBuf },
    #[error("{path} is not a directory; mote grants directories")]
    NotDirectory { path: PathBuf },
    #[error("{path} is the kernel's own file system, which is not granted to guests")]
    Kernels { path: PathBuf },
    #[error("cannot publish {address}")]
    Port { address: SocketAddr, source: io::Error },
    #[error("the container has no folder {path} to work in")]
    WorkingFolder { path: String },
    #[error("the program is a WASI preview 1 module, which has no sockets and no HTTP to grant")]
    NoSockets,
    #[error(
        "the program calls one of its functions by a name of {length} bytes; a name has at most {most} (`wasm-tools strip` removes names)"
    )]
    LongName { length: usize, most: usize },
    #[error("the program has more than {most} bytes")]
    TooLarge { most: u64 },
    #[error("cannot make scratch space at {path}")]
    Scratch { path: PathBuf, source: io::Error },
    #[error("the program needs more memory to start than its limit of {limit} (--memory)")]
    MemoryAtStart { limit: Bytes },
    #[error("the program cannot be started")]
    Start { source: wasmtime::Error },
    #[error(
        "cannot run a guest so that it can be interrupted, which takes a thread and a timer (timer_create, timer_settime)"
    )]
    Thread { source: io::Error },
    #[error("cannot run a program in a process of its own")]
    Worker { source: io::Error },
    /// What its process has said.
    #[error("{why}")]
    Apart { why: String, fault: Fault },
    #[error("its process cannot {what}")]
    Wall { what: &'static str, source: io::Error },
    #[error("this machine lacks {}, which --isolation process=strict requires", listed(.layers))]
    Lacks { layers: Vec<Layer> },
    #[error("this kernel has no AppArmor, and so no profile {profile}")]
    AppArmor { profile: String },
    #[error("the seccomp profile cannot be honoured: {why}")]
    Seccomp { why: String },
}

/// What kind of error it is, for whoever has only its text: another process has told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// The program cannot be run, whoever runs it.
    Program,
    /// It imports what nobody here provides.
    Import,
    /// It has no words for the network that it is granted.
    Sockets,
    /// It needs more memory to start than it may have.
    Memory,
    /// It has not what is asked for.
    Missing,
    /// A directory is not there to be granted.
    Directory,
    WorkingFolder,
    Port,
    /// The engine does not fit this machine.
    Setup,
    /// A layer of isolation is not to be had.
    Layer,
    /// Something else than the program.
    Host,
}

impl EngineError {
    /// Of what kind it is.
    pub fn fault(&self) -> Fault {
        match self {
            EngineError::Compile { .. }
            | EngineError::Compiler { .. }
            | EngineError::CompilerTimedOut { .. }
            | EngineError::Rejected { .. }
            | EngineError::NotWasm
            | EngineError::TooLarge { .. }
            | EngineError::LongName { .. }
            | EngineError::World { .. } => Fault::Program,
            EngineError::Import { .. } => Fault::Import,
            EngineError::NoSockets => Fault::Sockets,
            EngineError::MemoryAtStart { .. } => Fault::Memory,
            EngineError::NoExport { .. } => Fault::Missing,
            EngineError::Directory { .. } | EngineError::NotDirectory { .. } => Fault::Directory,
            EngineError::WorkingFolder { .. } => Fault::WorkingFolder,
            EngineError::Port { .. } => Fault::Port,
            EngineError::Setup { .. } => Fault::Setup,
            EngineError::Lacks { .. } => Fault::Layer,
            EngineError::Apart { fault, .. } => *fault,
            EngineError::Cache { .. }
            | EngineError::Unwanted
            | EngineError::Load { .. }
            | EngineError::Call { .. }
            | EngineError::Link { .. }
            | EngineError::Kernels { .. }
            | EngineError::Scratch { .. }
            | EngineError::Start { .. }
            | EngineError::Thread { .. }
            | EngineError::Worker { .. }
            | EngineError::Wall { .. }
            | EngineError::AppArmor { .. }
            | EngineError::Seccomp { .. } => Fault::Host,
        }
    }
}
