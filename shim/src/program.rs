//! Finds, compiles and loads a container's program. Compiled code is the machine's: one compile serves
//! every pod, and its pages are shared.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mote_engine::{
    Cache, Checks, CodeKey, Company, CompileIn, Engine, Module, Order, Process, Profile, Terminal,
    Terms, Wall, Wanted, WorkIn,
};
use mote_image::{Code, OpenError, Search};
use mote_spec::{Digest, Policy};

use crate::bundle::Bundle;
use crate::error::ShimError;
use crate::image::Images;
use crate::rootfs::Rootfs;
use crate::settings::{NodeFile, Settings};

/// Where this machine's programs are kept, and what compiles them.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) compiled: PathBuf,
    pub(crate) compile_in: CompileIn,
    /// What runs a guest in a process of its own.
    pub(crate) work_in: WorkIn,
    pub(crate) config: NodeFile,
    /// Where the OCI runtime keeps what it knows of native containers.
    pub(crate) runc_state: PathBuf,
    /// For sockets, whose paths have to be short.
    pub(crate) state: PathBuf,
    pub(crate) images: Images,
}

/// Whether a container is Wasm.
pub(crate) enum Found {
    Wasm(Source),
    /// The OCI runtime runs it, or says why it cannot.
    Native,
}

/// Finds a container's program: below its root, or, if there is none, in its image, which then is no more
/// than that. What it is, its bytes tell.
pub(crate) async fn find(
    node: &Node,
    id: &str,
    bundle: &mut Bundle,
    rootfs: &Rootfs,
) -> Result<Found, ShimError> {
    let name = bundle.args.first().map_or("the image", String::as_str);
    let search = Search {
        name,
        program: bundle.args.first().map(|first| first.split('#').next().unwrap_or(first)),
        env: &bundle.env,
        cwd: Some(bundle.cwd.as_str()),
    };
    match search.open(rootfs.path()) {
        Ok(code) => Ok(Found::Wasm(Source::File(code))),
        Err(OpenError::Native { .. }) => Ok(Found::Native),
        Err(error @ OpenError::NotWasm { .. }) if is_named_wasm(name) => Err(error.into()),
        Err(OpenError::NotWasm { .. }) => Ok(Found::Native),
        Err(missing @ (OpenError::NoProgram { .. } | OpenError::Undecided { found: 0, .. })) => {
            match node.of_image(id, bundle).await? {
                Some(source) => Ok(Found::Wasm(source)),
                None if bundle.args.is_empty() => Err(missing.into()),
                None if bundle.args.first().is_some_and(|name| is_named_wasm(name)) => {
                    Err(missing.into())
                }
                None => Ok(Found::Native),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether somebody means a Wasm program: no OCI runtime could say what is wrong with it.
fn is_named_wasm(name: &str) -> bool {
    Path::new(name.split('#').next().unwrap_or(name)).extension().is_some_and(|end| end == "wasm")
}

/// Where a program's binary is, which is read only if nobody has compiled it.
pub(crate) enum Source {
    /// In a file below a container's root.
    File(Code),
    /// In containerd's store: it is the image of that container.
    Image { container: String, digest: Digest },
}

impl Source {
    fn digest(&self) -> &Digest {
        match self {
            Source::File(code) => code.digest(),
            Source::Image { digest, .. } => digest,
        }
    }

    fn read(&self, images: &Images) -> Result<Vec<u8>, ShimError> {
        match self {
            Source::File(code) => Ok(code.read()?),
            Source::Image { container, digest } => images.read(container, digest),
        }
    }
}

/// A program that is ready to be started.
pub(crate) struct Program {
    pub(crate) digest: Digest,
    /// Where its code is kept.
    cache: PathBuf,
    profile: Profile,
    checks: Checks,
    pub(crate) engine: Engine,
    pub(crate) module: Module,
}

impl Program {
    /// What another process is told that is to run it.
    pub(crate) fn order(
        &self,
        policy: Policy,
        process: Process,
        (terminal, wall): (bool, Wall),
    ) -> Order {
        Order {
            cache: self.cache.clone(),
            program: self.digest.clone(),
            profile: self.profile,
            checks: self.checks,
            policy,
            process,
            // What it was mounted is granted directory by directory.
            root: None,
            scratch: None,
            terminal: if terminal { Terminal::Yes } else { Terminal::No },
            wall,
        }
    }
}

impl Node {
    /// The program that is a container's image. It has no files that arguments could name.
    async fn of_image(&self, id: &str, bundle: &mut Bundle) -> Result<Option<Source>, ShimError> {
        if bundle.is_sandbox() {
            return Ok(None);
        }
        let Some(described) = self.images.program(id).await? else { return Ok(None) };
        if bundle.args.is_empty() {
            bundle.args = described.args();
        }
        Ok(Some(Source::Image { container: id.to_owned(), digest: described.digest }))
    }

    /// Loads a program; compiles it if nobody has. May take minutes, and blocks.
    pub(crate) fn load(
        &self,
        source: &Source,
        policy: &Policy,
        settings: &Settings,
    ) -> Result<Arc<Program>, ShimError> {
        let Settings { profile, compile_timeout, .. } = *settings;
        let checks = Checks::of(policy, Company::Others);
        let cache = Cache::open(&self.compiled)?;
        let key = CodeKey::new(source.digest(), profile, checks);
        let trusted = match cache.get(&key) {
            Some(trusted) => trusted,
            None => {
                let how = (profile, checks);
                let terms = Terms { timeout: compile_timeout, wanted: Wanted::ALWAYS };
                mote_engine::compile(
                    &cache,
                    &key,
                    &source.read(&self.images)?,
                    how,
                    (&self.compile_in, &terms),
                )?
            }
        };
        let engine = Engine::new(profile, checks, policy.limits().bounds.stack)?;
        let module = Module::load(&engine, &trusted)?;
        let digest = source.digest().clone();
        Ok(Arc::new(Program {
            digest,
            cache: self.compiled.clone(),
            profile,
            checks,
            engine,
            module,
        }))
    }
}
