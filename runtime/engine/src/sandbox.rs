//! The state that a guest's host calls work on, and the one place that builds a store.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Weak};

use mote_spec::{Access, Bytes, Limit, Policy};
use tokio::runtime::{Handle, RuntimeFlavor};
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::filesystem::FsPerms;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::control::Control;
use crate::descriptors::Descriptors;
use crate::error::EngineError;
use crate::gauge::Gauge;
use crate::handles::{Handles, OpenDir};
use crate::hooks::listing::Lists;
use crate::hooks::open_cursors::OpenCursors;
use crate::http_gate::HttpGate;
use crate::launch::{Blocking, Process};
use crate::limiter::Limiter;
use crate::module::{Calls, Engine};
use crate::net_gate::NetGate;
use crate::pace::Pace;
use crate::quota::Quota;
use crate::stdio::{self, Stdio};
use crate::tick;

/// What belongs to one running guest.
pub(crate) struct Sandbox {
    pub(crate) p1: WasiP1Ctx,
    http: WasiHttpCtx,
    http_gate: HttpGate,
    limiter: Limiter,
    pub(crate) gauge: Arc<Gauge>,
    pub(crate) net: Arc<NetGate>,
    pub(crate) quota: Option<Arc<Quota>>,
    pub(crate) pace: Arc<Pace>,
    /// The names behind the look-ups that a 0.2 guest has under way, by the stream's number.
    pub(crate) lookups: HashMap<u32, String>,
    /// What a preview 1 guest has open, by descriptor.
    pub(crate) noted: Notes,
    /// The lists of directories that it is in the middle of.
    pub(crate) begun: OpenCursors,
    pub(crate) lists: Lists,
    descriptors: Descriptors,
    /// Whether file operations may hold this thread.
    pub(crate) blocking: Blocking,
    /// The granted directories, open for as long as the guest runs.
    granted: Vec<OpenDir>,
    _preopened: Vec<Arc<File>>,
}

type Notes = HashMap<u32, Noted>;

/// What is behind a descriptor of preview 1.
pub(crate) enum Noted {
    File(Weak<File>),
    Dir {
        dir: Weak<File>,
        is_read_only: bool,
    },
    /// A directory that was granted, by its number. If there is a quota, nothing can be made below it.
    Granted(usize),
}

impl Sandbox {
    /// Whether the guest may open one more file or socket.
    pub(crate) fn may_open(&mut self) -> bool {
        let table = self.p1.ctx().table;
        // The place of the next thing tells how many there are, but for those that were closed.
        let held = table.push(()).and_then(|probe| {
            let place = probe.rep();
            table.delete(probe).map(|()| place)
        });
        self.descriptors.has_room(held.unwrap_or(u32::MAX))
    }

    /// A granted directory, which `Noted::Granted` names.
    pub(crate) fn granted(&self, number: usize) -> BorrowedFd<'_> {
        self.granted[number].as_fd()
    }
}

impl WasiView for Sandbox {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.p1.ctx()
    }
}

impl WasiHttpView for Sandbox {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.http_gate,
            table: self.p1.ctx().table,
            ctx: &mut self.http,
        }
    }
}

/// A guest's store. When it goes, with thousands of sockets maybe, other guests of its thread are not kept waiting.
pub(crate) struct Whole(Option<Store<Sandbox>>);

/// How many things a guest may have open that are closed in no time.
const FEW: usize = 64;

impl Whole {
    pub(crate) fn store(&mut self) -> &mut Store<Sandbox> {
        self.0.as_mut().expect("it is there until it is dropped")
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        let Some(mut store) = self.0.take() else { return };
        let has_much = store.data_mut().p1.ctx().table.iter_mut().nth(FEW).is_some();
        match Handle::try_current().map(|events| events.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) if has_much => {
                tokio::task::block_in_place(move || drop(store));
            }
            _ => drop(store),
        }
    }
}

/// Builds the store of a container: every grant and every limit is applied here.
pub(crate) fn store(
    engine: &Engine,
    policy: &Policy,
    handles: Handles,
    process: &Process,
    stdio: &Stdio,
    (calls, gauge, control): (Calls, &Arc<Gauge>, &Arc<Control>),
) -> Result<Whole, EngineError> {
    let limits = policy.limits();
    let quota = Quota::new(limits.storage, &handles.dirs, Arc::clone(gauge))
        .map_err(|source| EngineError::Scratch { path: "storage".into(), source })?;
    let (noted, preopened) = match calls {
        Calls::Core => note(&handles, quota.is_some())?,
        Calls::One | Calls::Many => Default::default(),
    };
    let mut p1 = context(&handles, process, stdio)?;
    p1.ctx().table.set_max_capacity(limits.handles() as usize);
    let pace = Pace::new(Arc::clone(control));
    let sandbox = Sandbox {
        p1,
        http: http_context(),
        http_gate: HttpGate::new(Arc::clone(&handles.net), Arc::clone(gauge), Arc::clone(&pace)),
        limiter: Limiter::new(Arc::clone(control), limits.bounds, Arc::clone(gauge)),
        gauge: Arc::clone(gauge),
        net: handles.net,
        quota,
        pace,
        lookups: HashMap::new(),
        noted,
        begun: OpenCursors::default(),
        lists: Lists::new(),
        descriptors: Descriptors::of_this_process(),
        blocking: process.blocking,
        granted: handles.dirs.into_iter().chain(handles.cwd).collect(),
        _preopened: preopened,
    };
    let mut store = Store::new(&engine.inner, sandbox);
    store.limiter(|sandbox| &mut sandbox.limiter);
    store.set_hostcall_fuel(for_one_call(limits.bounds.host_buffer, calls));
    store.set_max_component_handles(limits.handles() as usize);
    if engine.checks.look_at_ticks() {
        // The guest gives way at every tick, so that it can be paused, throttled and stopped.
        store.epoch_deadline_callback(|_| {
            Ok(match tick::has_come() {
                true => UpdateDeadline::Yield(1),
                // It was another guest's.
                false => UpdateDeadline::Continue(1),
            })
        });
        store.set_epoch_deadline(1);
    }
    if engine.checks.count_fuel() {
        let fuel = match limits.fuel {
            Limit::AtMost(fuel) => fuel.get(),
            Limit::Unlimited => u64::MAX,
        };
        store.set_fuel(fuel).map_err(|source| EngineError::Start { source })?;
    }
    Ok(Whole(Some(store)))
}

/// How much the headers of one message may take.
const MOST_HEADERS: usize = 32 << 10;

fn http_context() -> WasiHttpCtx {
    let mut context = WasiHttpCtx::new();
    context.set_field_size_limit(MOST_HEADERS);
    context
}

/// How many random bytes a guest gets by one call: the thread is held until they are there.
const MOST_RANDOM: u64 = 8 << 20;

/// How many bytes one call may bring to the host.
fn for_one_call(most: Bytes, calls: Calls) -> usize {
    let part = match calls {
        Calls::Core => 1,
        Calls::One => 4,
        Calls::Many => 128,
    };
    usize::try_from(most.get() / part).unwrap_or(usize::MAX)
}

/// The first descriptor of preview 1 that is a directory (WASI preview 1, after stdio).
const FIRST_DIRECTORY: u32 = 3;

/// Notes the directories that a guest starts with under preview 1's descriptors, and opens those
/// that it may write to, if there is a quota.
fn note(handles: &Handles, has_quota: bool) -> Result<(Notes, Vec<Arc<File>>), EngineError> {
    let (mut noted, mut opened) = (Notes::new(), Vec::new());
    for (number, dir) in handles.dirs.iter().chain(&handles.cwd).enumerate() {
        let note = if has_quota && dir.access == Access::ReadWrite {
            let failed = |source| EngineError::Scratch { path: dir.path(), source };
            let dir = Arc::new(dir.open_again().map_err(failed)?);
            let note = Noted::Dir { dir: Arc::downgrade(&dir), is_read_only: false };
            opened.push(dir);
            note
        } else {
            Noted::Granted(number)
        };
        noted.insert(FIRST_DIRECTORY + number as u32, note);
    }
    Ok((noted, opened))
}

fn context(handles: &Handles, process: &Process, stdio: &Stdio) -> Result<WasiP1Ctx, EngineError> {
    let mut builder = WasiCtxBuilder::new();
    // Before the directories: they remember it.
    builder.allow_blocking_current_thread(process.blocking == Blocking::Allowed);
    stdio::connect(&mut builder, stdio);
    builder.max_random_size(MOST_RANDOM);
    builder.args(&process.args);
    for (name, value) in &process.env {
        builder.env(name, value);
    }
    if let Some(cwd) = &process.cwd {
        builder.initial_cwd(cwd);
    }
    for dir in handles.dirs.iter().chain(&handles.cwd) {
        let access = match dir.access {
            Access::ReadOnly => FsPerms::ReadOnly,
            Access::ReadWrite => FsPerms::ReadWrite,
        };
        let failed = |error: wasmtime::Error| EngineError::Start { source: error };
        builder.preopened_dir(dir.path(), &dir.guest, access).map_err(failed)?;
    }
    let net = Arc::clone(&handles.net);
    // Every use of a socket and every name is decided by the gate, which can say what was missing.
    builder.allow_tcp(true).allow_udp(true).allow_ip_name_lookup(true).socket_addr_check(
        move |address, way| {
            let net = Arc::clone(&net);
            Box::pin(async move { net.allows(address, way).await })
        },
    );
    Ok(builder.build_p1())
}
