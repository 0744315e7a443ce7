//! Connects a program's imports to WASI, and only those that it has.

use wasmtime::UnknownImportError;
use wasmtime::component;
use wasmtime_wasi::I32Exit;

use crate::denied::printable;
use crate::error::EngineError;
use crate::hooks;
use crate::http_requests;
use crate::module::Engine;
use crate::sandbox::Sandbox;
use crate::sockets;
use crate::sockets_p3;

/// Links a core module.
pub(crate) fn core(
    engine: &Engine,
    module: &wasmtime::Module,
    sandbox: &Sandbox,
) -> Result<wasmtime::InstancePre<Sandbox>, EngineError> {
    let failed = |source| EngineError::Start { source };
    let mut linker = wasmtime::Linker::new(&engine.inner);
    let imports = |name: &str| module.imports().any(|import| import.module() == name);
    if imports("wasi_snapshot_preview1") {
        wasmtime_wasi::p1::add_to_linker_async(&mut linker, |sandbox: &mut Sandbox| {
            &mut sandbox.p1
        })
        .map_err(failed)?;
    }
    if imports("wasi_unstable") {
        wasmtime_wasi::p0::add_to_linker_async(&mut linker, |sandbox: &mut Sandbox| {
            &mut sandbox.p1
        })
        .map_err(failed)?;
    }
    linker.allow_shadowing(true);
    for name in ["wasi_snapshot_preview1", "wasi_unstable"] {
        if imports(name) {
            // WASI's own refuses codes from 126 on; a container may end with any.
            linker
                .func_wrap(name, "proc_exit", |code: i32| -> wasmtime::Result<()> {
                    Err(I32Exit(code).into())
                })
                .map_err(failed)?;
            hooks::link_p1(&mut linker, name, sandbox.quota.is_some()).map_err(failed)?;
        }
    }
    #[cfg(feature = "escape-hook")]
    if imports(crate::escape::MODULE) {
        crate::escape::link(&mut linker).map_err(failed)?;
    }
    linker.instantiate_pre(module).map_err(|source| {
        match source.downcast_ref::<UnknownImportError>() {
            Some(unknown) => {
                let name = format!("{}::{}", unknown.module(), unknown.name());
                EngineError::Import { name: printable(&name) }
            }
            None => EngineError::Start { source },
        }
    })
}

/// What a component's imports need of the host.
#[derive(Debug, Default, PartialEq, Eq)]
struct Needs {
    p2: bool,
    p3: bool,
    http_p2: bool,
    http_p3: bool,
}

/// Links a component.
pub(crate) fn component(
    engine: &Engine,
    component: &component::Component,
    sandbox: &Sandbox,
) -> Result<component::InstancePre<Sandbox>, EngineError> {
    let failed = |source| EngineError::Start { source };
    let names: Vec<String> = component
        .component_type()
        .imports(&engine.inner)
        .map(|(name, _)| name.to_owned())
        .collect();
    let needs = needs(&names)?;
    let mut linker = component::Linker::new(&engine.inner);
    linker.allow_shadowing(true);
    if needs.p2 {
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(failed)?;
        sockets::link_p2(&mut linker).map_err(failed)?;
        hooks::link_p2(&mut linker, sandbox.quota.is_some()).map_err(failed)?;
    }
    if needs.http_p2 {
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).map_err(failed)?;
        http_requests::link_p2(&mut linker).map_err(failed)?;
    }
    if needs.p3 {
        wasmtime_wasi::p3::add_to_linker(&mut linker).map_err(failed)?;
        sockets_p3::link(&mut linker).map_err(failed)?;
        hooks::link_p3(&mut linker, sandbox.quota.is_some()).map_err(failed)?;
    }
    if needs.http_p3 {
        wasmtime_wasi_http::p3::add_to_linker(&mut linker).map_err(failed)?;
        http_requests::link_p3(&mut linker).map_err(failed)?;
    }
    linker.instantiate_pre(component).map_err(failed)
}

/// Reads a component's needs off the names of its imports, and refuses what nobody provides.
fn needs(imports: &[String]) -> Result<Needs, EngineError> {
    let mut needs = Needs::default();
    for name in imports {
        let unknown = || EngineError::Import { name: printable(name) };
        let package = name.split('/').next().unwrap_or_default();
        let is_p3 = name.contains("@0.3.");
        match package {
            "wasi:io" | "wasi:cli" | "wasi:clocks" | "wasi:filesystem" | "wasi:random"
            | "wasi:sockets" => {
                needs.p2 |= !is_p3;
                needs.p3 |= is_p3;
            }
            "wasi:http" => {
                needs.p2 |= !is_p3;
                needs.http_p2 |= !is_p3;
                needs.p3 |= is_p3;
                needs.http_p3 |= is_p3;
            }
            _ => return Err(unknown()),
        }
    }
    Ok(needs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_imported_is_linked() {
        let of = |names: &[&str]| {
            needs(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(of(&[]).unwrap(), Needs::default());
        assert_eq!(of(&["wasi:cli/stdout@0.2.6"]).unwrap(), Needs { p2: true, ..Needs::default() });
        assert_eq!(of(&["wasi:cli/stdout@0.3.0"]).unwrap(), Needs { p3: true, ..Needs::default() });
        assert!(of(&["wasi:http/types@0.2.0"]).unwrap().http_p2);
        assert!(
            matches!(of(&["acme:db/query@1.0.0"]), Err(EngineError::Import { name }) if name.contains("acme"))
        );
    }
}
