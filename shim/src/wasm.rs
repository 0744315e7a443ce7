//! A Wasm container of a pod: its driver, its root, and what is run beside it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mote_engine::{Call, Network, Wall, Worker};
use mote_image::Search;
use mote_lifecycle::{
    Container, Image, Made, Record, RestartPolicy, Setup, Status, Time, Workload,
};
use mote_spec::{ContainerId, ExitStatus, Isolation};
use oci_spec::runtime;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::bundle::{self, Bundle, pairs};
use crate::error::ShimError;
use crate::execs::Execs;
use crate::guest::{Guest, Place, Run, Volatile};
use crate::host_network::HostNetwork;
use crate::paths::Paths;
use crate::phase::Phase;
use crate::presence::Attendance;
use crate::program::{Node, Program, Source};
use crate::rootfs::Rootfs;
use crate::settings::Settings;
use crate::streams::{EndOfInput, Streams};

/// What a container has of its own that a process of the pod has not.
#[derive(Debug, Clone)]
pub(crate) struct Apart {
    /// How a new process gets to its network.
    pub(crate) network: Network,
    pub(crate) wall: Wall,
    pub(crate) isolation: Isolation,
}

impl Apart {
    /// Whether only a process of its own has that.
    pub(crate) fn is_needed(&self) -> bool {
        self.isolation != Isolation::Shared
            || self.network != Network::Inherited
            || bundle::needs_process(&self.wall)
    }
}

/// A container.
pub(crate) struct Wasm {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) paths: Paths,
    pub(crate) container: Container,
    pub(crate) end_of_input: EndOfInput,
    /// The process that it is in: this one, or its own.
    pub(crate) pid: u32,
    apart: Apart,
    /// Its network, where that is not the pod's: held for what runs beside it.
    _network: Option<HostNetwork>,
    program: Arc<Program>,
    rootfs: Rootfs,
    node: Node,
    pub(crate) settings: Settings,
    guests: Handle,
    pub(crate) execs: Execs<Exec>,
    /// Whether somebody starts it: from then on its driver ends it.
    begun: Mutex<bool>,
    /// What of its guest is there.
    attendance: Attendance,
    /// When it was killed that had not been started.
    unstarted_end: watch::Sender<Option<Time>>,
}

/// Something that runs beside a container.
pub(crate) struct Exec {
    pub(crate) paths: Paths,
    pub(crate) end_of_input: EndOfInput,
    run: Mutex<Option<Run>>,
    /// What it has of its own.
    apart: Apart,
    /// The process that it is in.
    pid: AtomicU32,
    attendance: Attendance,
    phase: watch::Sender<Phase>,
    /// Told to end it, and how.
    end: watch::Sender<Option<ExitStatus>>,
}

impl Wasm {
    /// Makes a container of what was read, mounted and loaded.
    pub(crate) fn new(
        id: &str,
        (bundle, rootfs): (Bundle, Rootfs),
        (program, policy): (Arc<Program>, mote_spec::Policy),
        paths: Paths,
        (node, settings, guests): (Node, Settings, Handle),
        (mut apart, worker): (Apart, Option<Worker>),
    ) -> Result<Wasm, ShimError> {
        let end_of_input = EndOfInput::default();
        let (attendance, presence) = Attendance::new();
        let streams = Streams::open(&paths, &end_of_input, &presence)?;
        let export = bundle.args.first().and_then(|first| first.split_once('#'));
        let call = match export {
            Some((_, name)) if !name.is_empty() && name != "_start" => {
                Call::Export(name.to_owned())
            }
            _ => Call::Main,
        };
        let pid = worker.as_ref().map_or_else(std::process::id, Worker::pid);
        let mut network = None;
        if apart.network != Network::Inherited {
            // What runs beside it is where it is.
            let own = HostNetwork::of(pid)?;
            apart.network = Network::Join(own.path());
            network = Some(own);
        }
        let place = match worker {
            Some(worker) => Place::apart(worker, apart.wall.clone(), presence.clone()),
            None => Place::Here,
        };
        let run = Run {
            name: id.to_owned(),
            program: Arc::clone(&program),
            policy: policy.clone(),
            args: bundle.args.clone(),
            env: bundle.variables(),
            cwd: Some(bundle.cwd.clone()),
            call,
            streams,
            terminal: paths.terminal,
            place,
            presence,
        };
        let digest = mote_image::sha256(id.as_bytes());
        let made = Made {
            id: ContainerId::new(bytes_of(digest.hex())),
            name: id.parse()?,
            image: Image {
                name: id.to_owned(),
                digest: program.digest.clone(),
                manifest: None,
                files: None,
            },
            args: run.args.clone(),
            env: run.env.clone(),
            cwd: run.cwd.clone(),
            policy,
            restart: RestartPolicy::No,
            setup: Setup::default(),
        };
        let record = Record::new(made, Time::now());
        let guest = Arc::new(Guest::new(guests.clone(), run));
        let container = drive(record, guest);
        Ok(Wasm {
            id: id.to_owned(),
            bundle: bundle.path,
            paths,
            container,
            end_of_input,
            pid,
            apart,
            _network: network,
            attendance,
            program,
            rootfs,
            node,
            settings,
            guests,
            execs: Execs::new(),
            begun: Mutex::new(false),
            unstarted_end: watch::Sender::new(None),
        })
    }

    pub(crate) fn phase(&self) -> Phase {
        let record = self.container.record();
        match (record.status(), *self.unstarted_end.borrow()) {
            (Status::Created, Some(at)) => {
                Phase::Stopped { code: ExitStatus::Killed.code(), at: Some(at) }
            }
            (Status::Created, None) => Phase::Created,
            (Status::Running, _) => Phase::Running,
            (Status::Paused, _) => Phase::Paused,
            (Status::Stopped(how), _) => Phase::Stopped { code: how.code(), at: record.finished },
            (Status::Removed, _) => {
                let code = record.last_end.map_or(0, ExitStatus::code);
                Phase::Stopped { code, at: record.finished }
            }
        }
    }

    /// Takes the right to start it. False if it was killed before.
    pub(crate) fn begin(&self) -> bool {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        *begun |= self.unstarted_end.borrow().is_none();
        *begun
    }

    /// Kills what has not been started. False if it has.
    pub(crate) fn kill_unstarted(&self) -> bool {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        !*begun
            && self.unstarted_end.send_if_modified(|end| {
                let first = end.is_none();
                *end = end.or(Some(Time::now()));
                first
            })
    }

    /// Waits for its end, and returns it.
    pub(crate) async fn ended(&self) -> Phase {
        // One that is only created may be killed, or removed, before it runs.
        let mut killed = self.unstarted_end.subscribe();
        tokio::select! {
            _ = self.container.wait(|record| {
                matches!(record.status(), Status::Stopped(_) | Status::Removed)
            }) => {}
            _ = killed.wait_for(Option::is_some) => {}
        }
        if *self.begun.lock().unwrap_or_else(PoisonError::into_inner) {
            // Its ports and files are free, and its output is read.
            self.attendance.over().await;
        }
        self.phase()
    }

    /// Gets something ready to be run beside the container, with its grants and limits: the program
    /// itself once more, one of its functions, or another program of its root.
    pub(crate) async fn add_exec(
        &self,
        id: &str,
        process: &runtime::Process,
        paths: Paths,
    ) -> Result<(), ShimError> {
        let record = self.container.record();
        let command = process.args().clone().unwrap_or_default();
        let functions = self.program.module.exports(&self.program.engine);
        let own = record.args.first().map(String::as_str);
        let (call, program) = match Call::of_command(&command, own, &functions) {
            Some(call) => (call, Arc::clone(&self.program)),
            None => (Call::Main, self.other_program(&command, process, &functions).await?),
        };
        self.execs.add(id, || {
            let end_of_input = EndOfInput::default();
            let (attendance, presence) = Attendance::new();
            let streams = Streams::open(&paths, &end_of_input, &presence)?;
            let env = pairs(process.env().as_deref().unwrap_or_default());
            let run = Run {
                name: format!("{} {id}", self.id),
                program,
                // It is not the container, and does not listen where that does.
                policy: record.policy.without_ports(),
                args: if call == Call::Main { command } else { record.args.clone() },
                env: if env.is_empty() { record.env.clone() } else { env },
                cwd: Some(process.cwd().display().to_string()),
                call,
                streams,
                terminal: paths.terminal,
                place: Place::Here,
                presence,
            };
            let wall = Wall {
                layers: self.apart.wall.layers,
                ..bundle::wall(process, self.apart.wall.seccomp.clone())
            };
            Ok(Exec {
                paths,
                end_of_input,
                run: Mutex::new(Some(run)),
                apart: Apart { wall, ..self.apart.clone() },
                attendance,
                pid: AtomicU32::new(std::process::id()),
                phase: watch::Sender::new(Phase::Created),
                end: watch::Sender::new(None),
            })
        })
    }

    /// Another program of the container's root; compiled if nobody has.
    async fn other_program(
        &self,
        command: &[String],
        process: &runtime::Process,
        functions: &[String],
    ) -> Result<Arc<Program>, ShimError> {
        let name = command.first().map_or("nothing", String::as_str);
        let cwd = process.cwd().display().to_string();
        let search = Search {
            name,
            program: Some(name),
            env: process.env().as_deref().unwrap_or_default(),
            cwd: Some(&cwd),
        };
        let code = search.open(self.rootfs.path()).map_err(|error| {
            ShimError::NotFound(format!(
                "exec failed: {name} is no function of this Wasm program, and no program of its image that runs here ({error}); its functions are {}; executable file",
                functions.join(", ")
            ))
        })?;
        let (node, policy) = (self.node.clone(), self.container.record().policy.clone());
        let settings = self.settings.clone();
        let loading =
            self.guests.spawn_blocking(move || node.load(&Source::File(code), &policy, &settings));
        loading.await.map_err(|error| ShimError::Invalid(error.to_string()))?
    }

    /// Starts what was got ready. It ends with the container.
    pub(crate) async fn start_exec(self: &Arc<Wasm>, exec: &Arc<Exec>) -> Result<(), ShimError> {
        if self.container.record().status() != Status::Running {
            return Err(ShimError::Precondition(format!("container {} does not run", self.id)));
        }
        let run = exec.run.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut run =
            run.ok_or_else(|| ShimError::Precondition("it was started before".to_owned()))?;
        if exec.apart.is_needed() {
            let spawned = Worker::spawn(&self.node.work_in, &exec.apart.network).await;
            let worker = spawned.inspect_err(|_| exec.ended(ExitStatus::NotStarted))?;
            exec.pid.store(worker.pid(), Ordering::Relaxed);
            run.place = Place::apart(worker, exec.apart.wall.clone(), run.presence.clone());
        }
        let running = match run.start(&self.guests).await {
            Ok(running) => running,
            Err(why) => {
                exec.ended(ExitStatus::NotStarted);
                return Err(ShimError::Invalid(why));
            }
        };
        exec.phase.send_replace(Phase::Running);
        let (exec, container, mut told) =
            (Arc::clone(exec), self.container.clone(), exec.end.subscribe());
        tokio::spawn(async move {
            let how = tokio::select! {
                ended = running.guest => ended.status,
                told = told.wait_for(Option::is_some) => {
                    told.ok().and_then(|how| *how).unwrap_or(ExitStatus::Killed)
                }
                _ = container.wait(|record| !record.status().is_live()) => ExitStatus::Killed,
            };
            exec.ended(how);
        });
        Ok(())
    }

    /// The processes that are its own or run beside it; the pod's where they are in that.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let beside =
            self.execs.running(|exec| (exec.phase() == Phase::Running).then(|| exec.pid()));
        let mut pids: Vec<u32> = std::iter::once(self.pid).chain(beside).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Waits for the end of what was started beside it.
    pub(crate) async fn execs_ended(&self) {
        for exec in self.execs.started(|exec| exec.phase() != Phase::Created) {
            exec.wait().await;
        }
    }

    /// Lets go of what the container saw.
    pub(crate) fn unmount(&self) {
        self.rootfs.unmount();
    }
}

impl Exec {
    pub(crate) fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    fn ended(&self, how: ExitStatus) {
        self.phase.send_replace(Phase::Stopped { code: how.code(), at: Some(Time::now()) });
    }

    /// Ends it, if it has not ended.
    pub(crate) fn end(&self, how: ExitStatus) {
        if self.phase() == Phase::Created {
            self.ended(how);
        }
        self.end.send_replace(Some(how));
    }

    /// Waits for its end, and returns it.
    pub(crate) async fn wait(&self) -> Phase {
        let mut phase = self.phase.subscribe();
        let ended = phase.wait_for(|phase| matches!(phase, Phase::Stopped { .. })).await;
        let ended = ended.map_or(Phase::Stopped { code: 0, at: None }, |phase| *phase);
        if self.run.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            self.attendance.over().await;
        }
        ended
    }
}

fn drive(record: Record, guest: Arc<impl Workload>) -> Container {
    let (container, driver) = Container::drive(record, Arc::new(Volatile), guest);
    tokio::spawn(driver);
    container
}

/// The bytes of a digest.
fn bytes_of(hex: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).unwrap_or_default();
        *byte = u8::from_str_radix(pair, 16).unwrap_or_default();
    }
    bytes
}
