//! Starts a program and sees it to its end: the guest's failure is an `ExitStatus`, not an error.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use mote_spec::{Bytes, ExitStatus, Limit, NetGrants, Policy, Root};
use tokio::sync::oneshot;
use wasmtime::{Store, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::alone::Alone;
use crate::apart::wall::Prepared;
use crate::control::Control;
use crate::denied::printable;
use crate::describe::{World, world};
use crate::error::EngineError;
use crate::gauge::Gauge;
use crate::handles::{self, RootDir};
use crate::launch::{Call, Launch};
use crate::link;
use crate::meter::{GivesWay, Metered, Turn};
use crate::module::{Code, Engine, Module};
use crate::outcome::Outcome;
use crate::root_copy::{self, Copied, On};
use crate::sandbox::{self, Sandbox};

/// How a guest's run ended, as far as wasmtime tells.
type Ended = Result<(u32, Vec<String>), wasmtime::Error>;

/// Runs a program to its end, its deadline, or until the future is dropped. One that was compiled to look at nothing
/// is to be the only one of its process, which ends soon after it.
///
/// # Errors
/// Fails if the program does not get as far as its first instruction.
pub async fn run(
    engine: &Engine,
    module: &Module,
    launch: Launch<'_>,
) -> Result<Outcome, EngineError> {
    let Launch { policy, process, stdio, root, scratch, gauge, control, begun, wall } = launch;
    check_sockets(module, policy)?;
    let limits = *policy.limits();
    let deadline = limits.timeout.bound().map(|timeout| Instant::now() + timeout.duration());
    let copy = match &root {
        Some(files) if policy.grants().root == Root::Copy => {
            let on = if wall.is_some() { On::ThisThread } else { On::BlockingThread };
            match root_copy::copy(files, scratch.as_deref(), deadline, on).await? {
                Copied::Whole(copy) => Some(copy),
                Copied::TimedOut => return Ok(Outcome::of_status(ExitStatus::TimedOut)),
            }
        }
        _ => None,
    };
    let root = root.as_ref().map(|files| RootDir { files, copy: copy.as_deref() });
    let handles = handles::open(policy.grants(), root, scratch.as_deref(), process.cwd.as_deref())?;
    if let (Some(_), Some(user)) = (wall, policy.security().user)
        && rustix::process::geteuid().is_root()
    {
        handles.give_to(user)?;
    }
    let net = Arc::clone(&handles.net);
    net.check_ports().map_err(|(address, source)| EngineError::Port { address, source })?;
    let wall = wall.map(|wall| wall.prepare(&handles, &policy.grants().net)).transpose()?;
    let host = (module.calls(engine), &gauge, &control);
    let mut whole = sandbox::store(engine, policy, handles, &process, &stdio, host)?;
    let lacks = wall.map(Prepared::raise).transpose()?.unwrap_or_default();
    let parts = (engine.clone(), module.clone());
    let guest = async move {
        let ((engine, module), call) = (&parts, (&process.call, begun));
        let store = whole.store();
        let ended = start(engine, module, store, call, limits.memory).await;
        let fuel_used = match limits.fuel {
            Limit::AtMost(fuel) => store.get_fuel().ok().map(|left| fuel.get() - left),
            Limit::Unlimited => None,
        };
        (ended, fuel_used)
    };
    let metered = meter(engine, module, guest, (Arc::clone(&gauge), control));
    let finished = match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline.into(), metered).await.ok(),
        None => Some(metered.await),
    }
    .transpose()
    .map_err(|source| EngineError::Thread { source })?;
    let denied = net.denied().all();
    let Some((ended, fuel_used)) = finished else {
        return Ok(Outcome { denied, lacks, ..Outcome::of_status(ExitStatus::TimedOut) });
    };
    let refused = gauge.is_refused();
    let (status, detail, results) = match ended? {
        Ok((code, results)) => (ExitStatus::Exited(code), None, results),
        Err(error) => {
            let (status, detail) = judge(&error, refused);
            (status, detail, Vec::new())
        }
    };
    Ok(Outcome { status, detail, results, fuel_used, denied, lacks })
}

/// Sees a guest to its end in the way that its code was compiled for.
async fn meter<T: Send + 'static>(
    engine: &Engine,
    module: &Module,
    guest: impl Future<Output = T> + Send + 'static,
    (gauge, control): (Arc<Gauge>, Arc<Control>),
) -> io::Result<T> {
    if !engine.checks.look_at_ticks() {
        return Alone::start(guest, module.code_range(), gauge, control)?.await;
    }
    let turn = Arc::new(Mutex::new(Turn::new(control.cpu_share())));
    let gives_way = GivesWay::ToOthers(engine.inner.clone());
    Metered::new(guest, gives_way, gauge, control, turn).await
}

/// Instantiates the program and calls it. The outer error is that it could not be started.
async fn start(
    engine: &Engine,
    module: &Module,
    store: &mut Store<Sandbox>,
    (call, begun): (&Call, Option<oneshot::Sender<()>>),
    memory: Bytes,
) -> Result<Ended, EngineError> {
    if *call == Call::Main {
        check_world(world(&module.exports(engine)))?;
    }
    match &module.code {
        Code::Core(code) => {
            let ready = link::core(engine, code, store.data())?;
            match ready.instantiate_async(&mut *store).await {
                Ok(instance) => core_call(store, instance, (call, StartSignal(begun))).await,
                Err(error) => instantiation(store, error, memory),
            }
        }
        Code::Component(code) => {
            let ready = link::component(engine, code, store.data())?;
            let has = module.exports(engine);
            let instance = match ready.instantiate_async(&mut *store).await {
                Ok(instance) => instance,
                Err(error) => return instantiation(store, error, memory),
            };
            let called = (call, StartSignal(begun));
            component_call(store, &instance, code, (called, &has)).await
        }
    }
}

/// A preview 1 module has no sockets, so that a grant of some would have no effect.
fn check_sockets(module: &Module, policy: &Policy) -> Result<(), EngineError> {
    match &module.code {
        Code::Core(_) if policy.grants().net != NetGrants::default() => Err(EngineError::NoSockets),
        Code::Core(_) | Code::Component(_) => Ok(()),
    }
}

fn check_world(world: World) -> Result<(), EngineError> {
    match world {
        World::Command => Ok(()),
        World::HttpHandler => Err(EngineError::World {
            what: "an HTTP handler (wasi:http), which `mote run` cannot serve; it runs commands (wasi:cli/run, or a module with _start)",
        }),
        World::Library => Err(EngineError::World {
            what: "a library: it has no _start and no wasi:cli/run; call one of its functions with --invoke",
        }),
    }
}

/// A trap of the start function is the guest's own end; too little memory is ours to explain.
fn instantiation(
    store: &Store<Sandbox>,
    error: wasmtime::Error,
    memory: Bytes,
) -> Result<Ended, EngineError> {
    if error.is::<Trap>() || error.is::<I32Exit>() {
        return Ok(Err(error));
    }
    match store.data().gauge.is_refused() {
        true => Err(EngineError::MemoryAtStart { limit: memory }),
        // Without its stack, whose names are the program's.
        false => {
            Err(EngineError::Start { source: wasmtime::Error::msg(error.root_cause().to_string()) })
        }
    }
}

/// Signal that instantiation has succeeded.
struct StartSignal(Option<oneshot::Sender<()>>);

impl StartSignal {
    /// Tells that the next thing that happens is the guest's own, and lets whoever is told act on it, unless
    /// that is another thread's.
    async fn tell(self) {
        if let Some(begun) = self.0 {
            // Nobody may be waiting for it.
            let _ = begun.send(());
            tokio::task::yield_now().await;
        }
    }
}

async fn core_call(
    store: &mut Store<Sandbox>,
    instance: wasmtime::Instance,
    (call, begun): (&Call, StartSignal),
) -> Result<Ended, EngineError> {
    let (name, arguments) = match call {
        Call::Main => ("_start", None),
        Call::Export(name) => (name.as_str(), None),
        Call::Invoke(text) => {
            let (name, arguments) = split_call(text);
            (name, Some(arguments))
        }
    };
    let Some(function) = instance.get_func(&mut *store, name) else {
        let has = instance
            .exports(&mut *store)
            .map(|export| (export.name().to_owned(), export.into_extern()))
            .filter(|(_, export)| export.clone().into_func().is_some())
            .map(|(name, _)| name)
            .collect::<Vec<_>>();
        return Err(EngineError::NoExport { name: name.to_owned(), has: has.join(", ") });
    };
    let ty = function.ty(&*store);
    let arguments = core_arguments(name, arguments.unwrap_or_default(), &ty)?;
    let mut results = vec![wasmtime::Val::I32(0); ty.results().len()];
    begun.tell().await;
    let ended = function.call_async(&mut *store, &arguments, &mut results).await;
    Ok(ended.map(|()| (0, results.iter().map(show).collect())))
}

/// Parts `f(1, 2)` into name and arguments; a bare name has none.
fn split_call(text: &str) -> (&str, &str) {
    match text.split_once('(') {
        Some((name, rest)) => (name.trim(), rest.trim_end().strip_suffix(')').unwrap_or(rest)),
        None => (text.trim(), ""),
    }
}

fn core_arguments(
    name: &str,
    text: &str,
    ty: &wasmtime::FuncType,
) -> Result<Vec<wasmtime::Val>, EngineError> {
    use wasmtime::{Val, ValType};
    let wrong =
        |why: String| EngineError::Call { name: name.to_owned(), text: text.to_owned(), why };
    let words: Vec<&str> = text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    if words.len() != ty.params().len() {
        return Err(wrong(format!("it takes {} arguments", ty.params().len())));
    }
    let value = |(word, ty): (&&str, ValType)| match ty {
        ValType::I32 => word
            .parse::<i32>()
            .or_else(|_| word.parse::<u32>().map(|n| n as i32))
            .ok()
            .map(Val::I32),
        ValType::I64 => word
            .parse::<i64>()
            .or_else(|_| word.parse::<u64>().map(|n| n as i64))
            .ok()
            .map(Val::I64),
        ValType::F32 => word.parse::<f32>().ok().map(Val::from),
        ValType::F64 => word.parse::<f64>().ok().map(Val::from),
        ValType::V128 | ValType::Ref(_) => None,
    };
    let values: Option<Vec<Val>> = words.iter().zip(ty.params()).map(value).collect();
    values.ok_or_else(|| wrong("an argument is not a number of the type that it takes".into()))
}

fn show(value: &wasmtime::Val) -> String {
    use wasmtime::Val;
    match value {
        Val::I32(value) => value.to_string(),
        Val::I64(value) => value.to_string(),
        Val::F32(bits) => f32::from_bits(*bits).to_string(),
        Val::F64(bits) => f64::from_bits(*bits).to_string(),
        other => format!("{other:?}"),
    }
}

async fn component_call(
    store: &mut Store<Sandbox>,
    instance: &wasmtime::component::Instance,
    code: &wasmtime::component::Component,
    ((call, begun), has): ((&Call, StartSignal), &[String]),
) -> Result<Ended, EngineError> {
    let (name, arguments) = match call {
        Call::Main => {
            begun.tell().await;
            let is_p3 = code.get_export_index(None, "wasi:cli/run@0.3.0").is_some();
            let ended = match is_p3 {
                true => run_p3(store, instance).await,
                false => run_p2(store, instance).await,
            };
            return Ok(ended.map(|code| (code, Vec::new())));
        }
        Call::Export(name) => (name.as_str(), ""),
        Call::Invoke(text) => split_call(text),
    };
    component_function(store, instance, (has, begun), (name, arguments)).await
}

async fn run_p2(
    store: &mut Store<Sandbox>,
    instance: &wasmtime::component::Instance,
) -> wasmtime::Result<u32> {
    let command = wasmtime_wasi::p2::bindings::Command::new(&mut *store, instance)?;
    let returned = command.wasi_cli_run().call_run(&mut *store).await?;
    Ok(if returned.is_ok() { 0 } else { 1 })
}

async fn run_p3(
    store: &mut Store<Sandbox>,
    instance: &wasmtime::component::Instance,
) -> wasmtime::Result<u32> {
    let command = wasmtime_wasi::p3::bindings::Command::new(&mut *store, instance)?;
    let returned = store
        .run_concurrent(async move |accessor| {
            let returned = command.wasi_cli_run().call_run(accessor).await?;
            // What the guest left running may still have something to write.
            std::future::poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
            wasmtime::error::Ok(returned)
        })
        .await??;
    Ok(if returned.is_ok() { 0 } else { 1 })
}

/// Calls a function of a component: `name`, or `namespace:package/interface.name`.
async fn component_function(
    store: &mut Store<Sandbox>,
    instance: &wasmtime::component::Instance,
    (has, begun): (&[String], StartSignal),
    (name, arguments): (&str, &str),
) -> Result<Ended, EngineError> {
    use wasmtime::component::Val;
    let missing = || EngineError::NoExport { name: name.to_owned(), has: has.join(", ") };
    let index = match name.rsplit_once('.') {
        Some((interface, function)) if interface.contains('/') => {
            let interface =
                instance.get_export_index(&mut *store, None, interface).ok_or_else(missing)?;
            instance.get_export_index(&mut *store, Some(&interface), function)
        }
        _ => instance.get_export_index(&mut *store, None, name),
    };
    let function =
        index.and_then(|index| instance.get_func(&mut *store, index)).ok_or_else(missing)?;
    let ty = function.ty(&*store);
    let wrong =
        |why: String| EngineError::Call { name: name.to_owned(), text: arguments.to_owned(), why };
    let params: Vec<_> = ty.params().map(|(_, ty)| ty).collect();
    let words = split_arguments(arguments);
    if words.len() != params.len() {
        return Err(wrong(format!("it takes {} arguments", params.len())));
    }
    let mut values = Vec::new();
    for (word, ty) in words.iter().zip(&params) {
        values.push(Val::from_wave(ty, word).map_err(|error| wrong(error.to_string()))?);
    }
    let mut results = vec![Val::Bool(false); ty.results().len()];
    begun.tell().await;
    let ended = function.call_async(&mut *store, &values, &mut results).await;
    let shown = |value: &Val| value.to_wave().unwrap_or_else(|error| error.to_string());
    Ok(ended.map(|()| (0, results.iter().map(shown).collect())))
}

/// Parts arguments at the commas that are inside no bracket and no quotes.
fn split_arguments(text: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), String::new());
    let (mut depth, mut quote, mut escaped) = (0i32, None, false);
    for c in text.chars() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth -= 1,
            (None, ',') if depth == 0 => {
                words.push(std::mem::take(&mut word));
                continue;
            }
            (None, _) => {}
        }
        word.push(c);
    }
    words.push(word);
    words.into_iter().map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
}

/// Reads off an error how the guest ended.
fn judge(error: &wasmtime::Error, memory_refused: bool) -> (ExitStatus, Option<String>) {
    if let Some(I32Exit(code)) = error.downcast_ref::<I32Exit>() {
        return (ExitStatus::Exited(*code as u32), None);
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => (ExitStatus::OutOfFuel, None),
        Some(Trap::Interrupt) => (ExitStatus::Killed, None),
        Some(Trap::AllocationTooLarge) => (ExitStatus::OutOfMemory, None),
        // Most guests die of refused memory by a trap of their own; which it was, the stack tells.
        _ if memory_refused => (ExitStatus::OutOfMemory, Some(explain(error))),
        _ => (ExitStatus::Trapped, Some(explain(error))),
    }
}

/// The reason of a trap, and the guest's stack, innermost first.
fn explain(error: &wasmtime::Error) -> String {
    let mut text = error.root_cause().to_string();
    if let Some(stack) = error.downcast_ref::<WasmBacktrace>() {
        for frame in stack.frames() {
            let name = frame
                .func_name()
                .map_or_else(|| format!("function {}", frame.func_index()), printable);
            text.push_str(&format!("\n  at {name}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_as_they_are_written() {
        assert_eq!(split_call("f(1, 2)"), ("f", "1, 2"));
        assert_eq!(split_call("f"), ("f", ""));
        assert_eq!(split_call("a:b/c.f()"), ("a:b/c.f", ""));
        assert_eq!(split_arguments("1, [2, 3], \"a,b\""), ["1", "[2, 3]", "\"a,b\""]);
        assert_eq!(split_arguments(""), Vec::<String>::new());
    }
}
