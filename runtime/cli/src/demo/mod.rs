//! `mote demo`: small workloads, packed, served by a registry on loopback, pulled back, and run.
//!
//! Needs no network and nothing but this program; leaves nothing behind.

mod registry;
mod workloads;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use mote_engine::{Blocking, Call, Captured, Input, Output, Process, Stdio, Terminal};
use mote_image::{Description, Kind, Overrides, Store, pack};
use mote_registry::{Client, Settings};
use mote_spec::{Asks, ExitStatus, ImageRef, decide};

use crate::app::{App, Globals};
use crate::error::CliError;
use crate::fetch::block_on;
use crate::launch::{self, Afterwards, Finished, Start};
use crate::output;
use crate::progress::Show;

use workloads::{WORKLOADS, Workload};

/// Show what mote does: pack, pull and run five small workloads under limits
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {}

impl DemoArgs {
    pub(crate) fn exec(self) -> Result<(), CliError> {
        let DemoArgs {} = self;
        let failed = |error: std::io::Error| {
            CliError::new(format!("cannot make a temporary folder: {error}"))
        };
        let folder = tempfile::tempdir().map_err(failed)?;
        let app = App::new(&Globals::below(folder.path()))?;
        let published = Store::open(&folder.path().join("published"))?;
        for workload in &WORKLOADS {
            publish(&published, workload)?;
        }
        let registry = registry::serve(published)?;
        output::line(&format!(
            "A registry serves {} images at {}.\n",
            WORKLOADS.len(),
            registry.address()
        ));
        for (number, workload) in WORKLOADS.iter().enumerate() {
            output::line(&format!("{}. {}", number + 1, workload.story));
            let image: ImageRef = format!("{}/{}:1", registry.address(), workload.name).parse()?;
            show(&app, &image, workload)?;
        }
        output::line(
            "All of it ran in this one process; the guests got only what the flags above gave them.",
        );
        output::line("Next: mote run --help");
        Ok(())
    }
}

fn publish(store: &Store, workload: &Workload) -> Result<(), CliError> {
    let wasm = wat::parse_str(workload.text).map_err(|error| {
        CliError::new(format!("workload {} is not valid: {error}", workload.name))
    })?;
    let about = Description {
        kind: Kind::Module,
        created: "1970-01-01T00:00:00Z".to_owned(),
        annotations: Default::default(),
    };
    let name: ImageRef = format!("localhost/{}:1", workload.name).parse()?;
    pack(store, &name, &wasm, &about)?;
    Ok(())
}

/// Pulls and runs one workload, and says what happened.
fn show(app: &App, image: &ImageRef, workload: &Workload) -> Result<(), CliError> {
    let flags = workload.flags.join(" ");
    let space = if flags.is_empty() { "" } else { " " };
    output::line(&format!("   $ mote run {flags}{space}{}", image.familiar()));
    let store = app.store()?;
    let client = Client::new(Settings::default())?;
    let start = Instant::now();
    let stored = block_on(mote_registry::pull(&store, &client, image, None, &Default::default()))??;
    let pulled = start.elapsed();
    let lease = store.lease()?;
    let artifact = mote_image::open(&store, &lease, &stored, Overrides::default())?;
    let policy = decide(workload.request()?, &Asks::default(), &app.machine.ceiling)?;
    let start = Instant::now();
    let ready = launch::prepare(app, &artifact, &policy, (Afterwards::GoesOn, Show::Nothing))?;
    let compiled = start.elapsed();
    let (out, err) = (Captured::new(64 << 10), Captured::new(64 << 10));
    let process = Process {
        args: artifact.args.clone(),
        env: Vec::new(),
        cwd: None,
        call: Call::Main,
        blocking: Blocking::Never,
    };
    let stdio = Stdio {
        input: Input::Empty,
        output: Output::Memory(out.clone()),
        error: Output::Memory(err.clone()),
        terminal: Terminal::No,
    };
    let start = Instant::now();
    let afterwards = Afterwards::GoesOn;
    let named = Start { artifact: &artifact, name: None, process, stdio, afterwards };
    let Finished { outcome, gauge, .. } = launch::run(app, ready, &policy, named)?;
    let ran = start.elapsed();
    for line in String::from_utf8_lossy(&[out.contents(), err.contents()].concat()).lines() {
        output::line(&format!("   | {line}"));
    }
    let cpu = Duration::from_nanos(gauge.cpu_nanos.load(Ordering::Relaxed));
    let code = match outcome.status {
        ExitStatus::Exited(_) => String::new(),
        _ => format!(" (exit code {})", outcome.status.code()),
    };
    output::line(&format!("   => {}{code}", outcome.status));
    let mut figures = format!(
        "   pulled in {}, compiled in {}, ran for {}, computed for {} ({:.0} % of a CPU), memory at most {}",
        brief(pulled),
        brief(compiled),
        brief(ran),
        brief(cpu),
        100.0 * cpu.as_secs_f64() / ran.as_secs_f64(),
        output::human_bytes(gauge.memory_peak.load(Ordering::Relaxed)),
    );
    if let Some(fuel) = outcome.fuel_used {
        figures.push_str(&format!(", {fuel} instructions"));
    }
    output::line(&figures);
    output::line("");
    match outcome.status == workload.ends {
        true => Ok(()),
        false => Err(CliError::new(format!(
            "{} should have ended otherwise: {}",
            workload.name, workload.ends
        ))),
    }
}

fn brief(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds >= 1.0 => format!("{seconds:.2} s"),
        seconds => format!("{:.1} ms", seconds * 1000.0),
    }
}
