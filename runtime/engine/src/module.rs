//! Loads compiled code into an engine.

use std::ops::Range;

use mote_spec::Bytes;
use wasmtime::Precompiled;
use wasmtime::component::Component;

use crate::cache::Trusted;
use crate::config::{self, Compiler};
use crate::error::EngineError;
use crate::profile::{Checks, Profile};

/// An engine that runs compiled programs. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: wasmtime::Engine,
    pub(crate) checks: Checks,
}

/// How a program's calls to the host come, and so how much each may leave there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Calls {
    /// One after another, each with all that it writes (preview 1).
    Core,
    /// One after another; what is long comes in pieces, by streams (WASI 0.2).
    One,
    /// Thousands may be under way (WASI 0.3).
    Many,
}

/// A program that is ready to be started any number of times.
#[derive(Clone)]
pub struct Module {
    pub(crate) code: Code,
}

#[derive(Clone)]
pub(crate) enum Code {
    Core(wasmtime::Module),
    Component(Component),
}

impl Engine {
    /// Makes an engine without a compiler.
    ///
    /// # Errors
    /// Fails if the machine has not the address space for the profile.
    pub fn new(profile: Profile, checks: Checks, stack: Bytes) -> Result<Engine, EngineError> {
        let inner = config::engine(profile, checks, stack, Compiler::Off)?;
        Ok(Engine { inner, checks })
    }
}

impl Module {
    /// Maps compiled code into the engine. Only what this host compiled can be loaded.
    pub fn load(engine: &Engine, trusted: &Trusted) -> Result<Module, EngineError> {
        let failed = |source| EngineError::Load { source };
        let path = trusted.path();
        let code = match wasmtime::Engine::detect_precompiled_file(&path).map_err(failed)? {
            Some(Precompiled::Component) => {
                // SAFETY: `Trusted` is made only of files that this host's compiler wrote and that
                // were verified under the host's key; they are never changed in place.
                Code::Component(
                    unsafe { Component::deserialize_file(&engine.inner, &path) }.map_err(failed)?,
                )
            }
            Some(Precompiled::Module) | None => {
                // SAFETY: as above.
                Code::Core(
                    unsafe { wasmtime::Module::deserialize_file(&engine.inner, &path) }
                        .map_err(failed)?,
                )
            }
        };
        Ok(Module { code })
    }

    /// Where its compiled code is.
    pub(crate) fn code_range(&self) -> Range<*const u8> {
        match &self.code {
            Code::Core(module) => module.image_range(),
            Code::Component(component) => component.image_range(),
        }
    }

    /// The names of all that the program imports.
    pub fn imports(&self, engine: &Engine) -> Vec<String> {
        match &self.code {
            Code::Core(module) => module
                .imports()
                .map(|import| format!("{}::{}", import.module(), import.name()))
                .collect(),
            Code::Component(component) => component
                .component_type()
                .imports(&engine.inner)
                .map(|(name, _)| name.to_owned())
                .collect(),
        }
    }

    /// Whether the program could use a network: a preview 1 module has no sockets.
    pub fn has_sockets(&self) -> bool {
        matches!(self.code, Code::Component(_))
    }

    /// How its calls to the host come.
    pub(crate) fn calls(&self, engine: &Engine) -> Calls {
        match &self.code {
            Code::Core(_) => Calls::Core,
            Code::Component(_)
                if self.imports(engine).iter().any(|name| name.contains("@0.3.")) =>
            {
                Calls::Many
            }
            Code::Component(_) => Calls::One,
        }
    }

    /// The names of the functions that the program exports, and of a component's interfaces.
    pub fn exports(&self, engine: &Engine) -> Vec<String> {
        match &self.code {
            Code::Core(module) => {
                let functions = module.exports().filter(|export| export.ty().func().is_some());
                functions.map(|export| export.name().to_owned()).collect()
            }
            Code::Component(component) => component
                .component_type()
                .exports(&engine.inner)
                .map(|(name, _)| name.to_owned())
                .collect(),
        }
    }
}
