//! Any module runs to an end under any policy, within its limits, and leaves nothing behind: no memory that was
//! not counted, no byte that was not allowed, no file that is still open.
#![no_main]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use mote_engine::{
    Blocking, Cache, Call, Checks, CodeKey, Company, CompileIn, Control, Engine, Gauge, Input,
    Launch, Module, Output, Process, Profile, Stdio, Terminal,
};
use mote_spec::{
    Asks, Bytes, Ceiling, Digest, Fuel, Grants, LimitWants, Policy, Request, SecurityWants, decide,
};

/// What a module may import, and what it has to export.
const IMPORTS: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pwrite" (func (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_seek" (func (param i32 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_renumber" (func (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_readdir" (func (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_set_size" (func (param i32 i64) (result i32)))
  (import "wasi_snapshot_preview1" "fd_allocate" (func (param i32 i64 i64) (result i32)))
  (import "wasi_snapshot_preview1" "path_open" (func (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_create_directory" (func (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_rename" (func (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_symlink" (func (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))))"#;
const EXPORTS: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

/// The limits of a run.
#[derive(Debug, Arbitrary)]
struct Limits {
    memory_pages: u8,
    fuel: u16,
    storage: u16,
    fast: bool,
    /// Whether the guest has its process to itself, where nothing but its end stops it: it comes to one.
    alone: bool,
}

/// No run may take longer than its deadline and this.
const SLACK: Duration = Duration::from_secs(4);
const DEADLINE: Duration = Duration::from_millis(500);
/// How many loops and calls a guest has that nothing else stops.
const LOOPS: u32 = 1_000;

fn module(input: &mut Unstructured<'_>, limits: &Limits) -> arbitrary::Result<Vec<u8>> {
    let config = wasm_smith::Config {
        available_imports: Some(wat::parse_str(IMPORTS).expect("text")),
        exports: Some(wat::parse_str(EXPORTS).expect("text")),
        max_imports: 19,
        max_memories: 3,
        max_memory32_bytes: 16 << 20,
        max_memory64_bytes: 16 << 20,
        max_tables: 4,
        memory64_enabled: true,
        multi_value_enabled: true,
        bulk_memory_enabled: true,
        reference_types_enabled: true,
        gc_enabled: true,
        exceptions_enabled: true,
        simd_enabled: true,
        tail_call_enabled: true,
        threads_enabled: false,
        shared_everything_threads_enabled: false,
        custom_page_sizes_enabled: false,
        wide_arithmetic_enabled: false,
        allow_floats: true,
        ..wasm_smith::Config::arbitrary(input)?
    };
    let config = wasm_smith::Config { allow_invalid_funcs: false, ..config };
    let mut module = wasm_smith::Module::new(config, input)?;
    if limits.alone {
        module.ensure_termination(LOOPS).map_err(|_| arbitrary::Error::IncorrectFormat)?;
    }
    Ok(module.to_bytes())
}

fn policy(limits: &Limits) -> Policy {
    let wants = LimitWants {
        memory: Some(Bytes::new(u64::from(limits.memory_pages) << 16)),
        fuel: limits.fast.then(|| Fuel::new(u64::from(limits.fuel) * 10 + 1)),
        timeout: (!limits.alone).then(|| "500ms".parse().expect("a time")),
        storage: Some(Bytes::new(u64::from(limits.storage) + 1)),
        ..LimitWants::default()
    };
    let scratch = vec!["/tmp:size=1m".parse().expect("scratch space")];
    let request = Request {
        limits: wants,
        grants: Grants { scratch, ..Grants::default() },
        security: SecurityWants::default(),
    };
    decide(request, &Asks::default(), &Ceiling::of_machine(Bytes::mib(512))).expect("a policy")
}

fn open_files() -> Vec<PathBuf> {
    let open = std::fs::read_dir("/proc/self/fd").expect("it is there").flatten();
    open.filter_map(|file| std::fs::read_link(file.path()).ok()).collect()
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => bytes_below(&entry.path()),
            Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |found| found.len()),
            _ => 0,
        })
        .sum()
}

/// Whether a guest that nobody wanted any more has been kept, as one is that has its process to itself.
static ONE_IS_KEPT: AtomicBool = AtomicBool::new(false);

fn run(wasm: &[u8], limits: &Limits) {
    let (folder, policy) = (tempfile::tempdir().expect("a folder"), policy(limits));
    let cache = Cache::open(&folder.path().join("cache")).expect("a cache");
    let digest: Digest = format!("sha256:{}", "ab".repeat(32)).parse().expect("a digest");
    let company = if limits.alone { Company::Nobody } else { Company::Others };
    let checks = Checks::of(&policy, company);
    let profile = if limits.memory_pages % 2 == 0 { Profile::Micro } else { Profile::Server };
    let key = CodeKey::new(&digest, profile, checks);
    let how = (profile, checks);
    let terms = mote_engine::Terms::default();
    let Ok(code) = mote_engine::compile(&cache, &key, wasm, how, (&CompileIn::Here, &terms)) else {
        return;
    };
    let engine = Engine::new(profile, checks, policy.limits().bounds.stack).expect("an engine");
    let module = Module::load(&engine, &code).expect("what was compiled loads");
    let scratch = folder.path().join("scratch");
    std::fs::create_dir(&scratch).expect("a folder");
    let gauge = Arc::new(Gauge::default());
    let launch = Launch {
        policy: &policy,
        process: Process {
            args: vec!["guest".into(), "/tmp/a".into()],
            env: Vec::new(),
            cwd: None,
            call: Call::Main,
            blocking: Blocking::Never,
        },
        stdio: Stdio {
            input: Input::Empty,
            output: Output::Memory(mote_engine::Captured::new(64 << 10)),
            error: Output::Memory(mote_engine::Captured::new(64 << 10)),
            terminal: Terminal::No,
        },
        root: None,
        scratch: Some(scratch.clone()),
        gauge: Arc::clone(&gauge),
        control: Arc::new(Control::new(policy.limits())),
        begun: None,
        wall: None,
    };
    let events = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let events = events.expect("an event loop");
    let began = Instant::now();
    // How it ends is its own affair.
    let run = mote_engine::run(&engine, &module, launch);
    let ended = events.block_on(async { tokio::time::timeout(DEADLINE * 2, run).await });
    assert!(began.elapsed() < SLACK, "it took {:?}", began.elapsed());
    if let Ok(Ok(outcome)) = &ended
        && let Some(fuel) = outcome.fuel_used
    {
        assert!(fuel <= u64::from(limits.fuel) * 10 + 1, "{fuel} of its fuel");
    }
    if ended.is_err() && limits.alone {
        // What nobody wants any more may be in a call yet, and still has what it has open.
        ONE_IS_KEPT.store(true, Ordering::Relaxed);
        std::mem::forget(events);
    } else {
        drop(events);
    }
    let most = policy.limits().memory.get();
    assert!(gauge.memory_peak.load(Ordering::Relaxed) <= most, "more memory than it may have");
    let stored = bytes_below(&scratch);
    let bound = u64::from(limits.storage) + 1;
    assert!(stored <= bound, "{stored} bytes where {bound} may be");
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Unstructured::new(bytes);
    let Ok(limits) = Limits::arbitrary(&mut input) else { return };
    let Ok(wasm) = module(&mut input, &limits) else { return };
    // The first run of a process opens what is kept for the others.
    let before = open_files();
    run(&wasm, &limits);
    let between = open_files();
    run(&wasm, &limits);
    if !ONE_IS_KEPT.load(Ordering::Relaxed) {
        // The thread that told of a guest's end may be about to let go of the event loop that it woke.
        let (start, mut after) = (Instant::now(), open_files());
        while after.len() > between.len() && start.elapsed() < SLACK {
            std::thread::yield_now();
            after = open_files();
        }
        assert!(
            after.len() <= between.len(),
            "files stay open: {before:?}, {between:?}, {after:?}"
        );
    }
});
