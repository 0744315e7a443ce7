//! Compiles programs, here or in a process of its own with bounded memory.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::cache::{Cache, CodeKey, Trusted};
use crate::compiler::compile_here;
use crate::error::EngineError;
use crate::profile::{Counting, Profile};

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
        CompileIn::Child { program, args } => compile_in_child(wasm, how, program, args, file),
    })
}

/// The profile that yields the same code and needs no reserved slots.
pub(crate) fn code_profile(profile: Profile) -> Profile {
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
