//! Compiled programs that are loaded, shared by all containers that run them.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use mote_engine::{
    Apart, Checks, CodeKey, Company, Description, Engine, EngineError, Gone, Launch, Module,
    Outcome, Wanted,
};
use mote_image::{Artifact, Overrides};
use mote_lifecycle::Record;
use mote_spec::{Bytes, Digest};

use crate::machine::{self, Machine, ProgramError};
use crate::turns::Turns;

/// So many programs that nobody runs stay loaded.
const IDLE: usize = 16;

/// A program that is ready to be started any number of times.
pub(crate) struct Program {
    place: Place,
    pub(crate) described: Description,
    /// The image's files must not be swept while a guest reads them.
    _tree: Option<File>,
}

/// Where a program is run.
enum Place {
    /// In this process, beside others.
    Here { engine: Engine, module: Module },
    /// In one of its own.
    Apart(Apart),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    program: Digest,
    is_apart: bool,
    checks: Checks,
    stack: Bytes,
    tree: Option<PathBuf>,
}

impl Program {
    /// Runs it where its policy says: in this process, or in one of its own.
    /// `process` is where it runs then.
    pub(crate) async fn run(
        &self,
        launch: Launch<'_>,
        process: &mut Option<Gone>,
    ) -> Result<Outcome, EngineError> {
        match &self.place {
            Place::Here { engine, module } => mote_engine::run(engine, module, launch).await,
            Place::Apart(apart) => {
                let (gone, run) = apart.start(launch).await?;
                *process = Some(gone);
                run.await
            }
        }
    }
}

/// The programs of a daemon.
pub(crate) struct Programs {
    machine: Machine,
    loaded: Mutex<Loaded>,
    turns: Turns,
}

#[derive(Default)]
struct Loaded {
    engines: HashMap<(Checks, Bytes), Engine>,
    programs: HashMap<Key, Weak<Program>>,
    recent: VecDeque<Arc<Program>>,
}

impl Programs {
    pub(crate) fn new(machine: Machine) -> Programs {
        Programs { machine, loaded: Mutex::default(), turns: Turns::default() }
    }

    fn loaded(&self) -> std::sync::MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The program of a container, if it is loaded.
    pub(crate) fn find(&self, record: &Record) -> Option<Arc<Program>> {
        self.loaded().programs.get(&key(record))?.upgrade()
    }

    /// Loads the program of a container. Compiles it if it has to, and blocks.
    pub(crate) fn load(
        &self,
        record: &Record,
        wanted: &Wanted,
    ) -> Result<Arc<Program>, ProgramError> {
        if let Some(program) = self.find(record) {
            return Ok(program);
        }
        let checks = Checks::of(&record.policy, Company::Others);
        // Before the code is looked for: afterwards the tree could be gone.
        let held = record.image.files.as_ref().map(|files| machine::hold(&files.tree));
        let tree = match held {
            Some(Ok(tree)) => Some(tree),
            Some(Err(_)) => {
                self.reopen(record)?;
                record.image.files.as_ref().map(|files| machine::hold(&files.tree)).transpose()?
            }
            None => None,
        };
        let code_key = CodeKey::new(&record.image.digest, self.machine.profile, checks);
        let code = match self.machine.cache()?.get(&code_key) {
            Some(code) => code,
            None => self.compiled(&self.reopen(record)?, checks, wanted)?,
        };
        let stack = record.policy.limits().bounds.stack;
        let is_apart = record.policy.security().is_apart();
        let engine = match is_apart {
            // It is only looked at.
            true => Engine::new(self.machine.profile, checks, stack)?,
            false => self.engine(checks, stack)?,
        };
        let module = Module::load(&engine, &code)?;
        let described = mote_engine::describe(&engine, &module)?;
        let place = match is_apart {
            true => Place::Apart(self.machine.apart(&record.image.digest, checks)),
            false => Place::Here { engine, module },
        };
        let program = Arc::new(Program { place, described, _tree: tree });
        let mut loaded = self.loaded();
        loaded.programs.retain(|_, known| known.strong_count() > 0);
        loaded.programs.insert(key(record), Arc::downgrade(&program));
        loaded.recent.push_back(Arc::clone(&program));
        if loaded.recent.len() > IDLE {
            loaded.recent.pop_front();
        }
        Ok(program)
    }

    /// The compiled code of a program, for as long as somebody wants it. Blocks.
    pub(crate) fn compiled(
        &self,
        artifact: &Artifact,
        checks: Checks,
        wanted: &Wanted,
    ) -> Result<mote_engine::Trusted, ProgramError> {
        if let Some(code) = self.machine.find_compiled(artifact, checks) {
            return Ok(code);
        }
        let _turn = self.turns.take(artifact.code.digest(), wanted).ok_or(EngineError::Unwanted)?;
        match self.machine.find_compiled(artifact, checks) {
            Some(code) => Ok(code),
            None => self.machine.compile(artifact, checks, wanted),
        }
    }

    /// Lets go of what nobody runs, so that it can be removed.
    pub(crate) fn forget_idle(&self) {
        self.loaded().recent.clear();
    }

    fn engine(&self, checks: Checks, stack: Bytes) -> Result<Engine, EngineError> {
        let mut loaded = self.loaded();
        let key = (checks, stack);
        if let Some(engine) = loaded.engines.get(&key) {
            return Ok(engine.clone());
        }
        let engine = Engine::new(self.machine.profile, checks, stack)?;
        loaded.engines.insert(key, engine.clone());
        Ok(engine)
    }

    /// Opens the image that a container was made of once more; its files are unpacked again if they
    /// have to be.
    pub(crate) fn reopen(&self, record: &Record) -> Result<Artifact, ProgramError> {
        let store = self.machine.store()?;
        let lease = store.lease()?;
        let named = |image: &&mote_image::Stored| {
            Some(&image.manifest.digest) == record.image.manifest.as_ref()
        };
        let images = store.images()?;
        let missing = || mote_image::StoreError::NoImage(record.image.name.clone());
        let stored = images.iter().find(named).ok_or_else(missing)?;
        let (entrypoint, args) = match record.args.split_first() {
            Some((first, rest)) => (Some(vec![first.clone()]), rest.to_vec()),
            None => (None, Vec::new()),
        };
        Ok(mote_image::open(&store, &lease, stored, Overrides { entrypoint, args })?)
    }
}

fn key(record: &Record) -> Key {
    Key {
        program: record.image.digest.clone(),
        is_apart: record.policy.security().is_apart(),
        checks: Checks::of(&record.policy, Company::Others),
        stack: record.policy.limits().bounds.stack,
        tree: record.image.files.as_ref().map(|files| files.tree.clone()),
    }
}
