//! Compiles programs, here or in a process of its own with bounded memory.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use mote_spec::Limits;

use crate::cache::{Cache, CodeKey, Trusted};
use crate::error::EngineError;
use crate::profile::{self, Compiler, Counting, Profile, machine_memory};

/// Where compiling happens.
#[derive(Debug, Clone)]
pub enum CompileIn {
    /// In this process.
    Here,
    /// In a child: a program that reads Wasm from its input and writes code to its output, as
    /// `compile_worker` does. It gets the profile's and the counting's code as arguments, and ends with
    /// 126 if the program is not valid.
    Child { program: PathBuf, args: Vec<String> },
}

/// How much address space the compiler's process may use: what the machine has, within these.
const LEAST_MEMORY: u64 = 1 << 30;
const MOST_MEMORY: u64 = 4 << 30;
/// How long it may compute, in seconds; the largest programs take minutes on a small board.
const MOST_TIME: u64 = 60 * 60;
/// The largest program that is compiled.
pub(crate) const LARGEST_PROGRAM: u64 = 512 << 20;

/// The exit code of a compiler's process that has found the program not to be valid.
const REJECTED: i32 = 126;

/// Compiles a program into the cache.
///
/// # Errors
/// Fails if the program is not valid Wasm, or needs more memory to compile than is allowed.
pub fn compile(
    cache: &Cache,
    key: &CodeKey,
    wasm: &[u8],
    how: (Profile, Counting),
    place: &CompileIn,
) -> Result<Trusted, EngineError> {
    cache.put(key, |file| match place {
        CompileIn::Here => {
            let code = compile_here(wasm, how)?;
            let path = PathBuf::from("compiled code");
            let mut file = file;
            file.write_all(&code).map_err(|source| EngineError::Cache { path, source })
        }
        CompileIn::Child { program, args } => compile_in_child(wasm, how, program, args, file),
    })
}

fn compile_here(
    wasm: &[u8],
    (profile, counting): (Profile, Counting),
) -> Result<Vec<u8>, EngineError> {
    if wasm.len() as u64 > LARGEST_PROGRAM {
        return Err(EngineError::TooLarge { most: LARGEST_PROGRAM });
    }
    let engine = profile::engine(
        code_profile(profile),
        counting,
        Limits::default().bounds.stack,
        Compiler::On,
    )?;
    let compiled = match wasm {
        [0, b'a', b's', b'm', _, _, 0, 0, ..] => engine.precompile_module(wasm),
        [0, b'a', b's', b'm', ..] => engine.precompile_component(wasm),
        _ => return Err(EngineError::NotWasm),
    };
    compiled.map_err(|source| EngineError::Compile { source })
}

/// The profile that yields the same code and needs no reserved slots.
fn code_profile(profile: Profile) -> Profile {
    match profile {
        Profile::Gateway { .. } | Profile::Server => Profile::Server,
        Profile::Micro => Profile::Micro,
    }
}

fn compile_in_child(
    wasm: &[u8],
    (profile, counting): (Profile, Counting),
    program: &PathBuf,
    args: &[String],
    file: &File,
) -> Result<(), EngineError> {
    let failed = |source| EngineError::Cache { path: program.clone(), source };
    let counting = match counting {
        Counting::Off => "plain",
        Counting::Fuel => "fuel",
    };
    let mut child = Command::new(program)
        .args(args)
        .args([&code_profile(profile).to_string(), counting])
        .stdin(Stdio::piped())
        .stdout(file.try_clone().map_err(failed)?)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut stdin = child.stdin.take().expect("the compiler's standard input is a pipe");
    // A compiler that fails early stops reading; what it says is more telling than the broken pipe.
    let sent = stdin.write_all(wasm);
    drop(stdin);
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() && sent.is_ok() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().trim_start_matches("mote: ").to_owned();
    Err(match output.status.code() {
        Some(REJECTED) => EngineError::Rejected { said },
        _ if said.is_empty() => {
            EngineError::Compiler { said: format!("it ended with {}", output.status) }
        }
        _ => EngineError::Compiler { said },
    })
}

/// What the compiler's process does: bounds its own memory, reads Wasm, writes code.
///
/// # Errors
/// Fails as `compile` does.
pub fn compile_worker(
    profile: Profile,
    counting: Counting,
    mut from: impl Read,
    mut to: impl Write,
) -> Result<(), EngineError> {
    let failed =
        |source| EngineError::Cache { path: "the compiler's input or output".into(), source };
    bound_this_process().map_err(failed)?;
    let mut wasm = Vec::new();
    from.by_ref().take(LARGEST_PROGRAM + 1).read_to_end(&mut wasm).map_err(failed)?;
    let code = compile_here(&wasm, (profile, counting))?;
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
    Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
}
