//! Runs one guest, a container's or an exec's, on the pod's threads.

use std::sync::{Arc, Mutex, PoisonError};

use mote_engine::{
    Blocking, Call, Control, EngineError, Gauge, Launch, Outcome, Process, Wall, Worker,
};
use mote_lifecycle::{Ended, Keep, Record, RecordsError, Running, Workload};
use mote_spec::{ExitStatus, Policy};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::cgroup::Cgroup;
use crate::presence::Presence;
use crate::program::Program;
use crate::streams::Streams;

/// A container's record, which lasts as long as the shim: containerd remembers the rest.
pub(crate) struct Volatile;

impl Keep for Volatile {
    async fn update(&self, _: &Record, _: &Record) -> Result<(), RecordsError> {
        Ok(())
    }

    async fn delete(&self, _: &Record, _: &Record) -> Result<(), RecordsError> {
        Ok(())
    }
}

/// Where a guest is run.
pub(crate) enum Place {
    /// In this process.
    Here,
    /// In a process of its own, which gives up what the wall says.
    Apart(Box<Worker>, Wall),
}

impl Place {
    /// A process of its own, which is present until it is gone.
    pub(crate) fn apart(worker: Worker, wall: Wall, presence: Presence) -> Place {
        let mut gone = worker.gone();
        tokio::spawn(async move {
            gone.wait().await;
            drop(presence);
        });
        Place::Apart(Box::new(worker), wall)
    }
}

/// All that a guest is run with.
pub(crate) struct Run {
    pub(crate) name: String,
    pub(crate) program: Arc<Program>,
    pub(crate) policy: Policy,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) cwd: Option<String>,
    pub(crate) call: Call,
    pub(crate) streams: Streams,
    pub(crate) terminal: bool,
    pub(crate) place: Place,
    /// What is to be waited for when it has ended.
    pub(crate) presence: Presence,
}

impl Run {
    /// Starts the guest on other threads, and waits until it stands.
    ///
    /// # Errors
    /// Fails with a text for a person if it does not get as far as its first instruction.
    pub(crate) async fn start(self, guests: &Handle) -> Result<Running, String> {
        let gauge = match &self.place {
            Place::Here => Arc::new(Gauge::default()),
            Place::Apart(worker, _) => worker.gauge(),
        };
        let control = Arc::new(Control::new(self.policy.limits()));
        let (begin, begun) = oneshot::channel();
        let task = self.see_to_end(Arc::clone(&gauge), Arc::clone(&control), begin);
        Running::of_task(guests.spawn(task), begun, (gauge, control)).await
    }

    async fn see_to_end(
        self,
        gauge: Arc<Gauge>,
        control: Arc<Control>,
        begin: oneshot::Sender<()>,
    ) -> Ended {
        let Run {
            name,
            program,
            policy,
            args,
            env,
            cwd,
            call,
            mut streams,
            terminal,
            place,
            presence: _presence,
        } = self;
        // Those in this process share its threads.
        let blocking = match place {
            Place::Here => Blocking::Never,
            Place::Apart(..) => Blocking::Allowed,
        };
        let process = Process { args, env, cwd, call, blocking };
        let outcome = match place {
            Place::Here => {
                let launch = Launch {
                    policy: &policy,
                    process,
                    stdio: streams.stdio(terminal),
                    root: None,
                    scratch: None,
                    gauge,
                    control,
                    begun: Some(begin),
                    wall: None,
                };
                mote_engine::run(&program.engine, &program.module, launch).await
            }
            Place::Apart(worker, wall) => {
                let order = program.order(policy.clone(), process, (terminal, wall));
                // The pod's, whose limit the kernel holds: the guest's own is mote's.
                let cgroup = Cgroup::of(worker.pid());
                let kills = cgroup.memory_kills();
                let ended = match streams.pipes() {
                    Ok(pipes) => worker.run(&order, pipes, &control, begin).await,
                    Err(source) => Err(EngineError::Worker { source }),
                };
                let by_kernel = |outcome: &Outcome| {
                    outcome.status == ExitStatus::Killed && cgroup.memory_kills() > kills
                };
                ended.map(|outcome| match by_kernel(&outcome) {
                    true => Outcome {
                        status: ExitStatus::OutOfMemory,
                        detail: Some(
                            "the kernel ended its process, for its pod's limit".to_owned(),
                        ),
                        ..outcome
                    },
                    false => outcome,
                })
            }
        };
        match outcome {
            Ok(outcome) => {
                let explained = outcome.explain(&name, &policy);
                let explained: Vec<String> =
                    explained.iter().map(|line| mote_spec::in_annotations(line)).collect();
                streams.end(&outcome.results, &explained).await;
                Ended { status: outcome.status, detail: outcome.detail }
            }
            Err(error) => {
                let why = crate::error::ShimError::from(error).text();
                streams.end(&[], &[format!("{name}: {why}")]).await;
                Ended { status: ExitStatus::NotStarted, detail: Some(why) }
            }
        }
    }
}

/// The guest of a container, which containerd starts once.
pub(crate) struct Guest {
    guests: Handle,
    run: Mutex<Option<Run>>,
}

impl Guest {
    pub(crate) fn new(guests: Handle, run: Run) -> Guest {
        Guest { guests, run: Mutex::new(Some(run)) }
    }
}

impl Workload for Guest {
    async fn start(&self, record: &Record) -> Result<Running, String> {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut run = run.ok_or_else(|| "it was started before".to_owned())?;
        // Its limits may have been changed since it was made.
        run.policy = record.policy.clone();
        run.start(&self.guests).await
    }
}
