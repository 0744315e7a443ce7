//! The process of one guest: does what it is told at a socket, and ends.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use rustix::process::Signal;
use tokio::sync::oneshot;

use super::link::{FILES, Link};
use super::namespaces::{self, Network};
use super::order::{Order, Said};
use crate::cache::{Cache, CodeKey};
use crate::control::{Control, Switches};
use crate::error::{EngineError, Fault};
use crate::gauge::Gauge;
use crate::inherited::{close_inherited, leave_signals_to_the_host};
use crate::launch::Launch;
use crate::mechanisms::{Layer, Layers};
use crate::meter::look_often;
use crate::module::{Engine, Module};
use crate::outcome::Outcome;
use crate::run::run;
use crate::stdio::{Input, Output, Stdio};

/// Does what is told at the socket that is this process's standard input: one guest's run. The process must have
/// no other thread, and nothing else open that it needs; it ends when this returns.
///
/// # Errors
/// Fails if there is nobody to talk to. What else fails is said at the socket.
pub fn work() -> io::Result<()> {
    close_inherited();
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    leave_signals_to_the_host();
    let mut events = tokio::runtime::Builder::new_current_thread();
    let events = look_often(&mut events).enable_all().build()?;
    let worked = events.block_on(serve(UnixStream::from(socket)));
    // A guest may have left something behind that holds up a thread.
    events.shutdown_background();
    worked
}

async fn serve(socket: UnixStream) -> io::Result<()> {
    let mut link = Link::new(socket)?;
    let Some(network) = link.next::<Network>().await? else { return Ok(()) };
    let lacks = match namespaces::enter(&network) {
        Ok(lacks) => lacks,
        Err(error) => return link.send(&failed(&error)).await,
    };
    link.send(&Said::Ready).await?;
    let files = link.receive_files().await?;
    let Some(order) = link.next::<Order>().await? else { return Ok(()) };
    let control = Arc::new(Control::new(order.policy.limits()));
    let (begin, mut begun) = oneshot::channel();
    let mut has_begun = false;
    let mut running =
        std::pin::pin!(carry_out(&order, files, lacks, (Arc::clone(&control), begin)));
    loop {
        tokio::select! {
            // What has begun is told before it has ended.
            biased;
            told = &mut begun, if !has_begun => {
                has_begun = true;
                if told.is_ok() {
                    link.send(&Said::Begun).await?;
                }
            }
            ended = &mut running => {
                // What was printed last may wait for the end of its line; its reader may be gone.
                let _ = io::stdout().flush();
                let said = ended.map(shown).map_or_else(|error| failed(&error), Said::Ended);
                return link.send(&said).await;
            }
            switches = link.next::<Switches>() => match switches? {
                Some(switches) => control.switch(switches),
                // Nobody wants it any more.
                None => return Ok(()),
            }
        }
    }
}

/// An outcome that fits into a message.
fn shown(outcome: Outcome) -> Outcome {
    const MOST: usize = 4 << 20;
    match outcome.results.iter().map(String::len).sum::<usize>() {
        0..=MOST => outcome,
        long => Outcome { results: vec![format!("(a result of {long} bytes)")], ..outcome },
    }
}

async fn carry_out(
    order: &Order,
    files: [OwnedFd; FILES],
    lacks: Vec<Layer>,
    (control, begin): (Arc<Control>, oneshot::Sender<()>),
) -> Result<Outcome, EngineError> {
    if order.wall.layers == Layers::All && !lacks.is_empty() {
        return Err(EngineError::Lacks { layers: lacks });
    }
    let failed = |source| EngineError::Worker { source };
    let [input, output, error, memory] = files;
    let gauge = Arc::new(Gauge::of_memory(memory.as_fd()).map_err(failed)?);
    let streams = || -> rustix::io::Result<()> {
        rustix::stdio::dup2_stdin(&input)?;
        rustix::stdio::dup2_stdout(&output)?;
        rustix::stdio::dup2_stderr(&error)
    };
    streams().map_err(|error| failed(error.into()))?;
    drop((input, output, error));
    let (engine, module) = load(order, &order.cache)?;
    let launch = Launch {
        policy: &order.policy,
        process: order.process.clone(),
        stdio: Stdio {
            input: Input::Inherit,
            output: Output::Inherit,
            error: Output::Inherit,
            terminal: order.terminal,
        },
        root: order.root.clone(),
        scratch: order.scratch.clone(),
        gauge,
        control,
        begun: Some(begin),
        wall: Some(&order.wall),
    };
    let mut outcome = run(&engine, &module, launch).await?;
    outcome.lacks.extend(lacks);
    Ok(outcome)
}

fn load(order: &Order, cache: &Path) -> Result<(Engine, Module), EngineError> {
    let Order { program, profile, checks, policy, .. } = order;
    let cache = Cache::open(cache)?;
    let code = cache.get(&CodeKey::new(program, *profile, *checks));
    let code = code.ok_or_else(|| EngineError::Apart {
        why: "the compiled program is gone from the cache".to_owned(),
        fault: Fault::Host,
    })?;
    // One guest needs no slots.
    let engine = Engine::new(profile.of_code(), *checks, policy.limits().bounds.stack)?;
    let module = Module::load(&engine, &code)?;
    Ok((engine, module))
}

/// What is said of an error.
fn failed(error: &EngineError) -> Said {
    Said::Failed(chain(error), error.fault())
}

/// An error with what it comes from, in a line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
