//! The compiler, in this process.

use std::io::{Read, Write};

use mote_spec::Limits;

use crate::config::{self, Compiler};
use crate::error::EngineError;
use crate::names;
use crate::profile::{Checks, Profile, machine_memory};

/// How much address space the compiler's process may use: what the machine has, within these.
const LEAST_MEMORY: u64 = 1 << 30;
const MOST_MEMORY: u64 = 4 << 30;
/// How long it may compute, in seconds; the largest programs take minutes on a small board.
const MOST_TIME: u64 = 60 * 60;
/// The largest program that is compiled.
const LARGEST_PROGRAM: u64 = 512 << 20;

pub(crate) fn compile_here(
    wasm: &[u8],
    (profile, checks): (Profile, Checks),
) -> Result<Vec<u8>, EngineError> {
    if wasm.len() as u64 > LARGEST_PROGRAM {
        return Err(EngineError::TooLarge { most: LARGEST_PROGRAM });
    }
    names::check(wasm)?;
    let engine =
        config::engine(profile.of_code(), checks, Limits::default().bounds.stack, Compiler::On)?;
    let compiled = match wasm {
        [0, b'a', b's', b'm', _, _, 0, 0, ..] => engine.precompile_module(wasm),
        [0, b'a', b's', b'm', ..] => engine.precompile_component(wasm),
        _ => return Err(EngineError::NotWasm),
    };
    compiled.map_err(|source| EngineError::Compile { source })
}

/// What the compiler's process does: bounds its own memory, reads Wasm, writes code.
///
/// # Errors
/// Fails as `compile` does.
pub fn compile_worker(
    profile: Profile,
    checks: Checks,
    mut from: impl Read,
    mut to: impl Write,
) -> Result<(), EngineError> {
    let failed =
        |source| EngineError::Cache { path: "the compiler's input or output".into(), source };
    bound_this_process().map_err(failed)?;
    std::thread::spawn(end_when_nobody_listens);
    let mut wasm = Vec::new();
    from.by_ref().take(LARGEST_PROGRAM + 1).read_to_end(&mut wasm).map_err(failed)?;
    let code = compile_here(&wasm, (profile, checks))?;
    to.write_all(&code).and_then(|()| to.flush()).map_err(failed)
}

/// Bounds memory and time, and dies with whoever wants the code.
fn bound_this_process() -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
    let bound = |resource: Resource, most: u64| {
        let allowed = getrlimit(resource);
        let current = Some(allowed.maximum.unwrap_or(u64::MAX).min(most));
        setrlimit(resource, Rlimit { current, maximum: allowed.maximum })
    };
    let machine = machine_memory().get();
    bound(Resource::As, machine.clamp(LEAST_MEMORY, MOST_MEMORY))?;
    bound(Resource::Cpu, MOST_TIME)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    rustix::thread::set_no_new_privs(true)?;
    Ok(crate::capabilities::keep(rustix::thread::CapabilitySet::empty())?)
}

/// Ends this process once the other end of its standard error is closed: nobody wants its code then.
fn end_when_nobody_listens() {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::process::{Signal, getpid, kill_process};
    let error = std::io::stderr();
    // Without an event that is asked for, only an end is told.
    while poll(&mut [PollFd::new(&error, PollFlags::empty())], None) == Err(rustix::io::Errno::INTR)
    {
    }
    let _ = kill_process(getpid(), Signal::KILL);
}
