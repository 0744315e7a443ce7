//! Runs the guest of one container, in a task of its own beside all others'.
//!
//! A run begins only when the one before is gone with all that it held: files, ports, scratch space.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mote_engine::{
    Blocking, Control, EngineError, Gauge, Gone, Launch, Outcome, Process, RootFiles, Waiting,
};
use mote_lifecycle::{Ended, Record, Running, Stream, Workload};
use mote_spec::{ExitStatus, Policy, Root, Scratch as ScratchGrant};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};

use crate::console::Console;
use crate::programs::{Program, Programs};
use crate::report::causes;
use crate::scratch::Scratch;

/// How long whoever ended a run waits for it to be gone.
const GOES: Duration = Duration::from_secs(5);

/// What all guests of a daemon share.
pub(crate) struct Shared {
    pub(crate) programs: Programs,
    /// Where guests compute: beside the API, which must answer whatever they do.
    pub(crate) guests: Handle,
    pub(crate) root: PathBuf,
}

/// The guest of one container, over all its runs.
pub(crate) struct Guest {
    shared: Arc<Shared>,
    console: Arc<Console>,
    /// Held by the run that is under way.
    turn: Arc<Mutex<()>>,
    /// The scratch folder of the run that is under way.
    place: Place,
}

/// A run as it is given to its task.
struct Run {
    /// What the container is called, for what is said of its end.
    name: String,
    program: Arc<Program>,
    process: Process,
    policy: Policy,
    root: Option<RootFiles>,
    stdio: mote_engine::Stdio,
    gauge: Arc<Gauge>,
    control: Arc<Control>,
}

/// Where a run writes, for whoever looks at its files meanwhile.
type Place = Arc<std::sync::Mutex<Option<PathBuf>>>;

impl Guest {
    pub(crate) fn new(shared: Arc<Shared>, console: Arc<Console>) -> Guest {
        Guest { shared, console, turn: Arc::default(), place: Arc::default() }
    }

    /// Waits until a run that was told to end is gone with all that it held; not for long, since
    /// another run may have begun meanwhile.
    pub(crate) async fn gone(&self) {
        let _ = tokio::time::timeout(GOES, self.turn.lock()).await;
    }

    /// Where the guest writes to now, if it has a place of its own.
    pub(crate) fn place(&self) -> Option<PathBuf> {
        self.place.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    async fn prepare(&self, record: &Record) -> Result<Run, String> {
        let program = program(&self.shared, record).await?;
        Ok(Run {
            name: record.name.to_string(),
            program,
            process: process(record),
            policy: record.policy.clone(),
            root: root_files(record),
            stdio: self.console.stdio(record),
            gauge: gauge(&record.policy)?,
            control: Arc::new(Control::new(record.policy.limits())),
        })
    }

    /// Sees a run to its end, and leaves nothing of it.
    async fn see_to_end(run: Run, begun: oneshot::Sender<()>, mut held: Held) -> Ended {
        let Run { name, program, process, policy, root, stdio, gauge, control } = run;
        let launch = Launch {
            policy: &policy,
            process,
            stdio,
            root,
            scratch: held.scratch.as_ref().map(|scratch| scratch.path().to_owned()),
            gauge,
            control,
            begun: Some(begun),
            wall: None,
        };
        let outcome = program.run(launch, &mut held.process).await;
        match &outcome {
            Ok(outcome) => {
                held.console.say(Stream::Stdout, &outcome.results);
                held.console.say(Stream::Stderr, &outcome.explain(&name, &policy));
            }
            Err(error) => held.console.say(Stream::Stderr, &[not_started(&name, &causes(error))]),
        }
        ended(&outcome)
    }
}

/// What a run holds until it is gone, however it goes.
struct Held {
    turn: Option<OwnedMutexGuard<()>>,
    console: Arc<Console>,
    scratch: Option<Scratch>,
    /// Its own process, which has its ports and files until it is gone.
    process: Option<Gone>,
    place: Place,
}

impl Held {
    fn take(&mut self, scratch: Scratch) {
        *self.place.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
            Some(scratch.path().to_owned());
        self.scratch = Some(scratch);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.place.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
        self.console.finish();
        let (turn, scratch, process) = (self.turn.take(), self.scratch.take(), self.process.take());
        if scratch.is_none() && process.is_none() {
            return;
        }
        // To end a process, and to remove what it wrote, take a while; until then nobody else has the turn.
        if let Ok(events) = Handle::try_current() {
            events.spawn(async move {
                if let Some(mut process) = process {
                    let _ = tokio::time::timeout(GOES, process.wait()).await;
                }
                let removed = move || drop((scratch, turn));
                let _ = tokio::task::spawn_blocking(removed).await;
            });
        }
    }
}

impl Workload for Guest {
    async fn start(&self, record: &Record) -> Result<Running, String> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let (console, place) = (Arc::clone(&self.console), Arc::clone(&self.place));
        // From here on: whoever listens to a run that will not be is let go, however that comes.
        let mut held = Held { turn: Some(turn), console, scratch: None, process: None, place };
        if needs_scratch(record) {
            held.take(make_scratch(&self.shared).await?);
        }
        let run = self.prepare(record).await.inspect_err(|why| {
            self.console.say(Stream::Stderr, &[not_started(record.name.as_str(), why)]);
        })?;
        let (gauge, control) = (Arc::clone(&run.gauge), Arc::clone(&run.control));
        let (begin, begun) = oneshot::channel();
        let task = self.shared.guests.spawn(Guest::see_to_end(run, begin, held));
        Running::of_task(task, begun, (gauge, control)).await
    }
}

/// Loads a container's program, beside everything else.
pub(crate) async fn program(shared: &Arc<Shared>, record: &Record) -> Result<Arc<Program>, String> {
    if let Some(program) = shared.programs.find(record) {
        return Ok(program);
    }
    let (shared, record) = (Arc::clone(shared), record.clone());
    // A start that is given up gives its compilation up.
    let waiting = Waiting::new();
    let wanted = waiting.wanted();
    let loaded = tokio::task::spawn_blocking(move || shared.programs.load(&record, &wanted)).await;
    drop(waiting);
    match loaded {
        Ok(loaded) => loaded.map_err(|error| causes(&error)),
        Err(_) => Err("loading its program failed".to_owned()),
    }
}

/// Makes an empty folder for a run.
pub(crate) async fn make_scratch(shared: &Arc<Shared>) -> Result<Scratch, String> {
    let root = shared.root.clone();
    match tokio::task::spawn_blocking(move || Scratch::make(&root)).await {
        Ok(made) => made.map_err(|error| causes(&error)),
        Err(_) => Err("making scratch space failed".to_owned()),
    }
}

pub(crate) fn needs_scratch(record: &Record) -> bool {
    let grants = record.policy.grants();
    !grants.scratch.is_empty() || (record.image.files.is_some() && grants.root == Root::Copy)
}

/// A gauge for a guest of this policy.
pub(crate) fn gauge(policy: &Policy) -> Result<Arc<Gauge>, String> {
    Gauge::of(policy).map(Arc::new).map_err(|error| format!("cannot make a gauge: {error}"))
}

/// How the container's program is started.
pub(crate) fn process(record: &Record) -> Process {
    Process {
        args: record.args.clone(),
        env: record.env.clone(),
        cwd: record.cwd.clone(),
        call: record.setup.call.clone(),
        blocking: match record.policy.security().is_apart() {
            true => Blocking::Allowed,
            // It shares its thread with others.
            false => Blocking::Never,
        },
    }
}

pub(crate) fn root_files(record: &Record) -> Option<RootFiles> {
    record.image.files.as_ref().map(|files| RootFiles {
        tree: files.tree.clone(),
        program: files.program.clone(),
        size: record.policy.limits().storage.bound().unwrap_or(ScratchGrant::DEFAULT_SIZE),
    })
}

fn not_started(name: &str, why: &str) -> String {
    format!("{name} {}: {why}", ExitStatus::NotStarted)
}

/// How a run ended, and what a person wants to know of it.
pub(crate) fn ended(outcome: &Result<Outcome, EngineError>) -> Ended {
    match outcome {
        Ok(outcome) => {
            let refused = outcome.denied.iter().map(|refusal| {
                format!("it was refused {}; allow it with {}", refusal.what, refusal.flag)
            });
            let detail: Vec<String> = outcome.detail.iter().cloned().chain(refused).collect();
            let detail = (!detail.is_empty()).then(|| detail.join("\n"));
            Ended { status: outcome.status, detail }
        }
        Err(error) => Ended { status: ExitStatus::NotStarted, detail: Some(causes(error)) },
    }
}
