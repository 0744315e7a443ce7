//! Finds, compiles and loads a container's program. Compiled code is the machine's: one compile serves
//! every pod, and its pages are shared.

use std::path::PathBuf;
use std::sync::Arc;

use mote_engine::{Cache, CodeKey, CompileIn, Counting, Engine, Module, Profile};
use mote_image::{Code, OpenError, Search};
use mote_spec::{Digest, Limit, Policy};

use crate::bundle::Bundle;
use crate::error::ShimError;
use crate::rootfs::Rootfs;

/// Where this machine's programs are kept, and what compiles them.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) compiled: PathBuf,
    pub(crate) compile_in: CompileIn,
    pub(crate) profile: Profile,
    /// Where the OCI runtime keeps what it knows of native containers.
    pub(crate) runc_state: PathBuf,
}

/// Whether a container is Wasm.
pub(crate) enum Found {
    Wasm(Code),
    /// The OCI runtime runs it, or says why it cannot.
    Native,
}

/// Finds a container's program below its root; what it is, its bytes tell.
pub(crate) fn find(bundle: &Bundle, rootfs: &Rootfs) -> Result<Found, ShimError> {
    let name = bundle.args.first().map_or("the image", String::as_str);
    let search = Search {
        name,
        program: bundle.args.first().map(|first| first.split('#').next().unwrap_or(first)),
        env: &bundle.env,
        cwd: Some(bundle.cwd.as_str()),
    };
    match search.open(rootfs.path()) {
        Ok(code) => Ok(Found::Wasm(code)),
        Err(OpenError::Native { .. } | OpenError::NotWasm { .. } | OpenError::NoProgram { .. }) => {
            Ok(Found::Native)
        }
        Err(error) => Err(error.into()),
    }
}

/// A program that is ready to be started.
pub(crate) struct Program {
    pub(crate) digest: Digest,
    pub(crate) engine: Engine,
    pub(crate) module: Module,
}

impl Node {
    /// Loads a program; compiles it if nobody has. May take minutes, and blocks.
    pub(crate) fn load(&self, code: &Code, policy: &Policy) -> Result<Arc<Program>, ShimError> {
        let counting = match policy.limits().fuel {
            Limit::AtMost(_) => Counting::Fuel,
            Limit::Unlimited => Counting::Off,
        };
        let cache = Cache::open(&self.compiled)?;
        let key = CodeKey::new(code.digest(), self.profile, counting);
        let trusted = match cache.get(&key) {
            Some(trusted) => trusted,
            None => {
                let how = (self.profile, counting);
                mote_engine::compile(&cache, &key, &code.read()?, how, &self.compile_in)?
            }
        };
        let engine = Engine::new(self.profile, counting, policy.limits().bounds.stack)?;
        let module = Module::load(&engine, &trusted)?;
        Ok(Arc::new(Program { digest: code.digest().clone(), engine, module }))
    }
}
