//! Compiles programs, here or in a process of its own with bounded memory.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use crate::cache::{Cache, CodeKey, Trusted};
use crate::compiler::compile_here;
use crate::error::EngineError;
use crate::profile::{Checks, Profile};
use crate::spawner::{Spawner, What};

/// Where compiling happens.
#[derive(Debug, Clone)]
pub enum CompileIn {
    /// In this process.
    Here,
    /// In a child: a program that reads Wasm from its input and writes code to its output, as
    /// `compile_worker` does. It gets the profile's and the checks' names as arguments, and ends with
    /// 126 if the program is not valid.
    Child { program: PathBuf, args: Vec<String> },
    /// In a child that another process starts.
    Spawned(Arc<Spawner>),
}

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
    how: (Profile, Checks),
    place: &CompileIn,
) -> Result<Trusted, EngineError> {
    // Whoever wants the same at the same time, in whatever process, waits for the one that compiles.
    let _turn = cache.turn(key)?;
    if let Some(code) = cache.get(key) {
        return Ok(code);
    }
    cache.put(key, |file| match place {
        CompileIn::Here => {
            let code = compile_here(wasm, how)?;
            let path = PathBuf::from("compiled code");
            let mut file = file;
            file.write_all(&code).map_err(|source| EngineError::Cache { path, source })
        }
        CompileIn::Child { program, args } => {
            let failed = |source| EngineError::Cache { path: program.clone(), source };
            compile_in_child(wasm, file, |files| start_child(program, args, how, files))
                .map_err(failed)?
        }
        CompileIn::Spawned(spawner) => {
            let failed = |source| EngineError::Cache { path: "the compiler".into(), source };
            compile_in_child(wasm, file, |files| ask_for_child(spawner, how, files))
                .map_err(failed)?
        }
    })
}

/// The profile that yields the same code and needs no reserved slots.
pub(crate) fn code_profile(profile: Profile) -> Profile {
    match profile {
        Profile::Gateway { .. } | Profile::Server => Profile::Server,
        Profile::Micro => Profile::Micro,
    }
}

/// How much is kept of what a compiler says.
const MOST_SAID: u64 = 64 << 10;

/// Waits for a compiler's end.
type Wait = Box<dyn FnOnce() -> io::Result<ExitStatus>>;

/// What a compiler's process is told of how to compile.
fn words((profile, checks): (Profile, Checks)) -> [String; 2] {
    [code_profile(profile).to_string(), checks.to_string()]
}

fn start_child(
    program: &PathBuf,
    args: &[String],
    how: (Profile, Checks),
    [input, output, error]: [OwnedFd; 3],
) -> io::Result<Wait> {
    let mut command = Command::new(program);
    command.args(args).args(words(how)).stdin(input).stdout(output).stderr(error);
    let mut child = command.spawn()?;
    Ok(Box::new(move || child.wait()))
}

fn ask_for_child(
    spawner: &Arc<Spawner>,
    how: (Profile, Checks),
    files: [OwnedFd; 3],
) -> io::Result<Wait> {
    let [profile, checks] = words(how);
    let asked = spawner.ask(What::Compiler(profile, checks), files)?;
    Ok(Box::new(move || {
        asked.started.blocking_recv().map_err(io::Error::other)??;
        asked.ended.blocking_recv().map_err(io::Error::other)
    }))
}

/// Compiles in a process whose standard streams are these files. The outer error is that there was none.
fn compile_in_child(
    wasm: &[u8],
    file: &File,
    start: impl FnOnce([OwnedFd; 3]) -> io::Result<Wait>,
) -> io::Result<Result<(), EngineError>> {
    let (input, mut to) = io::pipe()?;
    let (mut from, error) = io::pipe()?;
    let wait = start([input.into(), file.try_clone()?.into(), error.into()])?;
    // What it says is read beside: it may say much before it has read all.
    let said = std::thread::spawn(move || {
        let mut said = Vec::new();
        from.by_ref().take(MOST_SAID).read_to_end(&mut said)?;
        // It may not be held up by what nobody wants to know.
        io::copy(&mut from, &mut io::sink()).map(|_| said)
    });
    // A compiler that fails early stops reading; what it says is more telling than the broken pipe.
    let sent = to.write_all(wasm);
    drop(to);
    let said = said.join().map_err(|_| io::Error::other("reading what it says failed"))??;
    let status = wait()?;
    if status.success() && sent.is_ok() {
        return Ok(Ok(()));
    }
    let said = String::from_utf8_lossy(&said);
    let said = said.trim().trim_start_matches("mote: ").to_owned();
    Ok(Err(match status.code() {
        Some(REJECTED) => EngineError::Rejected { said },
        _ if said.is_empty() => EngineError::Compiler { said: format!("it ended with {status}") },
        _ => EngineError::Compiler { said },
    }))
}
