//! Says what a program is: module or component, what it needs, what it offers.

use mote_spec::Bytes;

use crate::error::EngineError;
use crate::module::{Code, Engine, Module};

/// What kind of program it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Module,
    Component,
}

/// What a program is made to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum World {
    /// It is started, does its work and ends.
    Command,
    /// It answers HTTP requests that a host hands to it.
    HttpHandler,
    /// It has functions to be called.
    Library,
}

/// What there is to know about a program without running it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    pub kind: Kind,
    pub world: World,
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    /// Memory that it needs before its first instruction.
    pub memory_at_start: Bytes,
}

/// A page of WebAssembly's memory.
const PAGE: u64 = 64 << 10;

/// Describes a loaded program.
pub fn describe(engine: &Engine, module: &Module) -> Result<Description, EngineError> {
    let exports = module.exports(engine);
    let (kind, memory) = match &module.code {
        Code::Core(module) => (Kind::Module, module.resources_required().max_initial_memory_size),
        Code::Component(component) => {
            let required = component.resources_required();
            (Kind::Component, required.and_then(|required| required.max_initial_memory_size))
        }
    };
    Ok(Description {
        kind,
        world: world(&exports),
        imports: module.imports(engine),
        exports,
        // It is counted in pages.
        memory_at_start: Bytes::new(memory.unwrap_or_default().saturating_mul(PAGE)),
    })
}

/// The world follows from the exports.
pub(crate) fn world(exports: &[String]) -> World {
    let has = |prefix: &str| exports.iter().any(|name| name.starts_with(prefix));
    if has("wasi:cli/run@") || exports.iter().any(|name| name == "_start") {
        return World::Command;
    }
    match has("wasi:http/incoming-handler@") || has("wasi:http/handler@") {
        true => World::HttpHandler,
        false => World::Library,
    }
}
