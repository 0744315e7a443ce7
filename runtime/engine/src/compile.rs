//! Compiles programs, here or in a process of its own with bounded memory and time.
//!
//! A few kilobytes of Wasm can take a compiler minutes. So a compilation ends with its time limit, or once
//! nobody wants its code; one that ran out of time is not begun again for a while, by whatever process.
//! A compiler's process ends when the other end of its standard error is closed
//! ([`compile_worker`](crate::compile_worker)): also where another process has started it.

use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::cache::{Cache, CodeKey, Trusted};
use crate::compiler::compile_here;
use crate::error::EngineError;
use crate::profile::{Checks, Profile};
use crate::spawner::{Spawner, What};
use crate::wanted::Wanted;

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

/// How long a program may take to compile where nobody says: minutes for the largest ones, on a small board.
pub const COMPILE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// How often a running compilation asks whether its code is still wanted.
const WANTED_INTERVAL: Duration = Duration::from_millis(200);

/// Bounds of one compilation.
#[derive(Debug, Clone)]
pub struct Terms {
    pub timeout: Duration,
    pub wanted: Wanted,
}

impl Default for Terms {
    fn default() -> Terms {
        Terms { timeout: COMPILE_TIMEOUT, wanted: Wanted::ALWAYS }
    }
}

/// The exit code of a compiler's process that has found the program not to be valid.
const REJECTED: i32 = 126;

/// Compiles a program into the cache.
///
/// # Errors
/// Fails if the program is not valid Wasm, needs more memory or time to compile than is allowed, or if nobody
/// wants it any more.
pub fn compile(
    cache: &Cache,
    key: &CodeKey,
    wasm: &[u8],
    how: (Profile, Checks),
    (place, terms): (&CompileIn, &Terms),
) -> Result<Trusted, EngineError> {
    // Whoever wants the same at the same time, in whatever process, waits for the one that compiles.
    let _turn = cache.turn(key, &terms.wanted)?;
    if let Some(code) = cache.get(key) {
        return Ok(code);
    }
    if let Some(limit) = cache.timed_out(key).filter(|limit| *limit >= terms.timeout) {
        return Err(EngineError::CompilerTimedOut { limit });
    }
    if !terms.wanted.is_wanted() {
        return Err(EngineError::Unwanted);
    }
    let compiled = cache.put(key, |file| match place {
        CompileIn::Here => {
            let code = compile_here(wasm, how)?;
            let path = PathBuf::from("compiled code");
            let mut file = file;
            file.write_all(&code).map_err(|source| EngineError::Cache { path, source })
        }
        CompileIn::Child { program, args } => {
            let failed = |source| EngineError::Cache { path: program.clone(), source };
            compile_in_child(wasm, file, terms, |files| start_child(program, args, how, files))
                .map_err(failed)?
        }
        CompileIn::Spawned(spawner) => {
            let failed = |source| EngineError::Cache { path: "the compiler".into(), source };
            compile_in_child(wasm, file, terms, |files| ask_for_child(spawner, how, files))
                .map_err(failed)?
        }
    });
    if let Err(EngineError::CompilerTimedOut { limit }) = &compiled {
        cache.note_timed_out(key, *limit);
    }
    compiled
}

/// How much is kept of what a compiler says.
const MOST_SAID: usize = 64 << 10;

/// Waits for a compiler's end.
type Wait = Box<dyn FnOnce() -> io::Result<ExitStatus>>;

/// What a compiler's process is told of how to compile.
fn words((profile, checks): (Profile, Checks)) -> [String; 2] {
    [profile.of_code().to_string(), checks.to_string()]
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
    terms: &Terms,
    start: impl FnOnce([OwnedFd; 3]) -> io::Result<Wait>,
) -> io::Result<Result<(), EngineError>> {
    let (input, mut to) = io::pipe()?;
    let (from, error) = io::pipe()?;
    let wait = start([input.into(), file.try_clone()?.into(), error.into()])?;
    let (sent, said) = std::thread::scope(|scope| {
        // A compiler that fails early stops reading; what it says is more telling than the broken pipe.
        let sending = scope.spawn(move || to.write_all(wasm));
        let said = listen(from, terms);
        (sending.join().expect("writing to a pipe does not panic"), said)
    });
    let status = wait()?;
    let said = match said? {
        Heard::All(said) => said,
        Heard::Unwanted => return Ok(Err(EngineError::Unwanted)),
        Heard::TimedOut => return Ok(Err(EngineError::CompilerTimedOut { limit: terms.timeout })),
    };
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

/// End of listening to a compiler: its messages, if it ended, or the reason to end it.
enum Heard {
    All(Vec<u8>),
    TimedOut,
    Unwanted,
}

/// Listens to a compiler until it ends, its time is over, or nobody wants its code. Closes the pipe, which ends a
/// compiler that still runs.
fn listen(mut from: PipeReader, terms: &Terms) -> io::Result<Heard> {
    let deadline = Instant::now() + terms.timeout;
    let (mut said, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Heard::TimedOut);
        }
        if !terms.wanted.is_wanted() {
            return Ok(Heard::Unwanted);
        }
        let wait = Timespec::try_from(left.min(WANTED_INTERVAL)).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&from, PollFlags::IN)], Some(&wait)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            ready => ready?,
        };
        match from.read(&mut piece)? {
            0 => return Ok(Heard::All(said)),
            // Messages beyond the bound are read and dropped, so that the compiler is not held up.
            count if said.len() + count <= MOST_SAID => said.extend_from_slice(&piece[..count]),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wanted::Waiting;

    fn terms(timeout: Duration, wanted: Wanted) -> Terms {
        Terms { timeout, wanted }
    }

    /// A compiler that never ends by itself, and ends when its standard error is closed.
    fn endless(files: [OwnedFd; 3]) -> io::Result<Wait> {
        let [input, output, error] = files;
        let watch = std::thread::spawn(move || {
            let _files = (input, output);
            poll(&mut [PollFd::new(&error, PollFlags::empty())], None).map(drop)
        });
        Ok(Box::new(move || {
            watch.join().expect("it watches")?;
            Command::new("/bin/false").status()
        }))
    }

    fn run(terms: &Terms) -> Result<(), EngineError> {
        let file = tempfile::tempfile().unwrap();
        compile_in_child(b"", &file, terms, endless).unwrap()
    }

    #[test]
    fn a_compilation_ends_with_its_time() {
        let limit = Duration::from_millis(1);
        let ended = run(&terms(limit, Wanted::ALWAYS));
        assert!(matches!(ended, Err(EngineError::CompilerTimedOut { .. })), "{ended:?}");
    }

    #[test]
    fn a_compilation_ends_when_its_client_goes() {
        let client = Waiting::new();
        let wanted = client.wanted();
        let going = std::thread::spawn(move || drop(client));
        let ended = run(&terms(Duration::from_secs(60), wanted));
        assert!(matches!(ended, Err(EngineError::Unwanted)), "{ended:?}");
        going.join().unwrap();
    }
}
