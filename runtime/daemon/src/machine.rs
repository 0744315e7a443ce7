//! What a machine has that containers are made of: folders of images, compiled programs and scratch
//! space, the engine's profile, and how far a container may go.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mote_engine::{
    Apart, Cache, Checks, CodeKey, CompileIn, EngineError, Profile, Terms, Trusted, Wanted, WorkIn,
};
use mote_image::{Artifact, OpenError, Store, StoreError};
use mote_spec::{Ceiling, Digest};

/// A machine as a process of mote sees it.
#[derive(Clone)]
pub struct Machine {
    /// What lasts: images, compiled programs, records, scratch space.
    pub root: PathBuf,
    /// What is gone with the next boot: sockets and locks.
    pub state: PathBuf,
    pub profile: Profile,
    pub ceiling: Ceiling,
    /// Where programs are compiled.
    pub compile_in: CompileIn,
    /// How long a program may take to compile.
    pub compile_timeout: Duration,
    /// What runs a guest in a process of its own.
    pub work_in: WorkIn,
}

/// Why a program is not ready to be run.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("cannot use {path}")]
    Tree { path: PathBuf, source: std::io::Error },
}

impl Machine {
    /// The images of this machine.
    pub fn store(&self) -> Result<Store, StoreError> {
        Store::open(&self.root.join("images"))
    }

    /// The compiled programs of this machine.
    pub fn cache(&self) -> Result<Cache, EngineError> {
        Cache::open(&self.root.join("compiled"))
    }

    /// A program in a process of its own.
    pub fn apart(&self, program: &Digest, checks: Checks) -> Apart {
        Apart {
            work_in: self.work_in.clone(),
            cache: self.root.join("compiled"),
            program: program.clone(),
            profile: self.profile,
            checks,
        }
    }

    /// The compiled code of a program, if it has been compiled.
    pub fn find_compiled(&self, artifact: &Artifact, checks: Checks) -> Option<Trusted> {
        let key = CodeKey::new(artifact.code.digest(), self.profile, checks);
        self.cache().ok()?.get(&key)
    }

    /// Compiles a program, for as long as somebody wants it. May take minutes, and blocks.
    pub fn compile(
        &self,
        artifact: &Artifact,
        checks: Checks,
        wanted: &Wanted,
    ) -> Result<Trusted, ProgramError> {
        let key = CodeKey::new(artifact.code.digest(), self.profile, checks);
        let wasm = artifact.code.read()?;
        let (cache, how) = (self.cache()?, (self.profile, checks));
        let terms = Terms { timeout: self.compile_timeout, wanted: wanted.clone() };
        Ok(mote_engine::compile(&cache, &key, &wasm, how, (&self.compile_in, &terms))?)
    }
}

/// Keeps an image's unpacked files from being swept while a guest reads them.
pub fn hold(tree: &Path) -> Result<File, ProgramError> {
    let held = File::open(tree).and_then(|folder| folder.lock_shared().map(|()| folder));
    held.map_err(|source| ProgramError::Tree { path: tree.to_owned(), source })
}
