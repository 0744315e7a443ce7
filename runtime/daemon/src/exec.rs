//! Runs something else of a container's image beside the container: another function, or another
//! program, in a fresh instance with the same grants and limits.
//!
//! It gets scratch space of its own, and none of the container's ports. It ends with the container.

use std::fmt;
use std::sync::Arc;

use mote_engine::{
    Call, Checks, Company, Control, Feed, Input, Launch, Output, Room, Sink, Stdio, Terminal,
    Wanted,
};
use mote_lifecycle::{Ended, Files, Record, Status, Stream};
use mote_spec::ExitStatus;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use crate::console::Chunk;
use crate::daemon::Daemon;
use crate::entry::{Beside, Entry, Joined, Role};
use crate::error::DaemonError;
use crate::execs::ExecRequest;
use crate::guest;
use crate::programs::Program;
use crate::report::causes;

/// Something that is ready to run beside a container.
pub(crate) struct Ready {
    record: Record,
    program: Arc<Program>,
    process: mote_engine::Process,
    terminal: Terminal,
    joined: Joined,
}

type Decided = (Record, Arc<Program>, mote_engine::Process);

impl Daemon {
    /// Finds out what a command means to a container that runs.
    pub(crate) async fn prepare_exec(
        self: &Arc<Daemon>,
        entry: &Arc<Entry>,
        wish: &ExecRequest,
        role: Role,
    ) -> Result<Ready, DaemonError> {
        let record = entry.record();
        let instead = match record.status() {
            Status::Running => None,
            Status::Paused => Some("is paused; unpause it first"),
            Status::Created | Status::Stopped(_) | Status::Removed => Some("is not running"),
        };
        if let Some(instead) = instead {
            return Err(DaemonError::Conflict(format!("container {} {instead}", record.name)));
        }
        let (daemon, wanted, mut record) = (Arc::clone(self), wish.clone(), Record::clone(&record));
        // It is not the container, and does not listen where that does.
        record.policy = record.policy.without_ports();
        let prepared =
            tokio::task::spawn_blocking(move || daemon.decide_exec(record, wanted)).await;
        let (record, program, process) =
            prepared.map_err(|_| DaemonError::Failed("preparing it failed".to_owned()))??;
        let control = Arc::new(Control::new(record.policy.limits()));
        let gauge = guest::gauge(&record.policy).map_err(DaemonError::Failed)?;
        let joined = entry.join(Beside { role, control, gauge })?;
        Ok(Ready { record, program, process, terminal: wish.terminal, joined })
    }

    /// Blocks.
    fn decide_exec(&self, mut record: Record, wish: ExecRequest) -> Result<Decided, DaemonError> {
        let ExecRequest { command, env, cwd, terminal: _ } = wish;
        let programs = &self.shared.programs;
        if command.is_empty() {
            return Err(DaemonError::BadRequest("No exec command specified".to_owned()));
        }
        let main = programs.load(&record, &Wanted::ALWAYS)?;
        let own = record.args.first().map(String::as_str);
        let call = match Call::of_command(&command, own, &main.described.exports) {
            Some(call) => call,
            None => {
                self.switch_program(&mut record, &command, &main.described.exports)?;
                Call::Main
            }
        };
        if call == Call::Main {
            record.args = command;
        }
        record.env.retain(|(name, _)| !env.iter().any(|(other, _)| other == name));
        record.env.extend(env);
        record.cwd = cwd.or(record.cwd);
        let program = programs.load(&record, &Wanted::ALWAYS)?;
        let process = mote_engine::Process { call, ..guest::process(&record) };
        Ok((record, program, process))
    }

    /// Turns to another program of the image's files.
    fn switch_program(
        &self,
        record: &mut Record,
        command: &[String],
        functions: &[String],
    ) -> Result<(), DaemonError> {
        let other = record.changed(|other| other.args = command.to_vec());
        let opened = match record.image.files {
            Some(_) => self.shared.programs.reopen(&other).ok(),
            None => None,
        };
        let Some(artifact) = opened else {
            let has = match functions {
                [] => String::new(),
                some => format!("; its functions are {}", some.join(", ")),
            };
            return Err(DaemonError::Nothing {
                what: "function or program",
                name: format!(
                    "{} in {}: executable file not found in the image{has}",
                    command[0], record.image.name
                ),
            });
        };
        let checks = Checks::of(&record.policy, Company::Others);
        self.shared.programs.compiled(&artifact, checks, &Wanted::ALWAYS)?;
        record.image.digest = artifact.code.digest().clone();
        record.image.files =
            artifact.rootfs.map(|root| Files { tree: root.tree, program: root.program });
        Ok(())
    }

    /// Runs what was prepared to its end, or to its container's.
    pub(crate) async fn run_exec(
        self: &Arc<Daemon>,
        entry: &Entry,
        ready: Ready,
        input: Option<DuplexStream>,
        output: mpsc::Sender<Chunk>,
    ) -> Ended {
        let shared = Arc::clone(&self.shared);
        let task = shared.guests.clone().spawn(async move {
            let Ready { record, program, process, terminal, joined } = ready;
            let scratch = match guest::needs_scratch(&record) {
                true => match guest::make_scratch(&shared).await {
                    Ok(scratch) => Some(scratch),
                    Err(why) => {
                        return Ended { status: ExitStatus::NotStarted, detail: Some(why) };
                    }
                },
                false => None,
            };
            let tap = |stream| Output::Sink(Arc::new(Tap { stream, output: output.clone() }));
            let launch = Launch {
                policy: &record.policy,
                process,
                stdio: Stdio {
                    input: input.map_or(Input::Empty, |input| Input::Feed(Feed::new(input))),
                    output: tap(Stream::Stdout),
                    error: tap(Stream::Stderr),
                    terminal,
                },
                root: guest::root_files(&record),
                scratch: scratch.as_ref().map(|scratch| scratch.path().to_owned()),
                gauge: joined.gauge(),
                control: joined.control(),
                begun: None,
                wall: None,
            };
            let outcome = program.run(launch, &mut None).await;
            if let Ok(outcome) = &outcome {
                for result in &outcome.results {
                    let bytes = format!("{result}\n").into_bytes().into();
                    // Nobody may be listening any more.
                    let _ = output.send(Chunk { stream: Stream::Stdout, bytes }).await;
                }
            }
            guest::ended(&outcome)
        });
        let mut task = AbortOnDrop(task);
        tokio::select! {
            ended = &mut task.0 => ended.unwrap_or_else(|error| Ended {
                status: ExitStatus::Killed,
                detail: Some(causes(&error)),
            }),
            _ = entry.container.wait(|record| !record.status().is_live()) => {
                Ended { status: ExitStatus::Killed, detail: None }
            }
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<Ended>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Output that goes to one listener and is kept nowhere.
struct Tap {
    stream: Stream,
    output: mpsc::Sender<Chunk>,
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of an exec", self.stream)
    }
}

impl Sink for Tap {
    fn take(&self, bytes: &[u8]) {
        let bytes = bytes::Bytes::copy_from_slice(bytes);
        // There was room; a listener that is gone gets nothing more.
        let _ = self.output.try_send(Chunk { stream: self.stream, bytes });
    }

    fn has_room(&self) -> bool {
        self.output.capacity() > 0 || self.output.is_closed()
    }

    fn room(self: Arc<Self>) -> Room {
        Box::pin(async move {
            // One that is gone leaves room too.
            drop(self.output.reserve().await);
        })
    }
}
