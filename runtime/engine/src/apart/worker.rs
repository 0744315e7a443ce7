//! The process of one guest: does what it is told at a socket, and ends.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use tokio::sync::oneshot;

use super::link::{FILES, Link};
use super::{Network, Order, Said};
use crate::cache::{Cache, CodeKey};
use crate::compile::code_profile;
use crate::control::{Control, Switches};
use crate::error::EngineError;
use crate::gauge::Gauge;
use crate::module::{Engine, Module};
use crate::run::{Launch, Outcome, run};
use crate::stdio::{Input, Output, Stdio, Terminal};

/// Does what is told at a socket: one guest's run. The process must have no other thread, and ends when
/// this returns.
///
/// # Errors
/// Fails if there is nobody to talk to. What else fails is said at the socket.
pub fn work(socket: OwnedFd) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let events = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let worked = events.block_on(serve(UnixStream::from(socket)));
    // A guest may have left something behind that holds up a thread.
    events.shutdown_background();
    worked
}

async fn serve(socket: UnixStream) -> io::Result<()> {
    let mut link = Link::new(socket)?;
    let Some(network) = link.next().await? else { return Ok(()) };
    let entered = enter(&network);
    link.send(&entered.map_or_else(|error| Said::Failed(chain(&error)), |()| Said::Ready)).await?;
    let files = link.receive_files().await?;
    let Some(order) = link.next::<Order>().await? else { return Ok(()) };
    let control = Arc::new(Control::new(order.policy.limits()));
    let (begin, mut begun) = oneshot::channel();
    let mut has_begun = false;
    let mut running = std::pin::pin!(carry_out(&order, files, Arc::clone(&control), begin));
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
                let said = ended.map_or_else(|error| Said::Failed(chain(&error)), Said::Ended);
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

/// Enters a network namespace.
fn enter(network: &Network) -> Result<(), EngineError> {
    let failed = |what, source| EngineError::Wall { what, source };
    match network {
        Network::Inherited => Ok(()),
        Network::Fresh => {
            // SAFETY: this process has one thread, and has opened nothing of the network.
            let made = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) };
            made.map_err(|error| failed("make a network namespace", error.into()))
        }
        Network::Join(path) => {
            let file = std::fs::File::open(path);
            let file = file.map_err(|error| failed("open its network namespace", error))?;
            let kind = Some(LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(file.as_fd(), kind)
                .map_err(|error| failed("enter its network namespace", error.into()))
        }
    }
}

async fn carry_out(
    order: &Order,
    files: [OwnedFd; FILES],
    control: Arc<Control>,
    begin: oneshot::Sender<()>,
) -> Result<Outcome, EngineError> {
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
            terminal: if order.terminal { Terminal::Yes } else { Terminal::No },
        },
        root: None,
        scratch: None,
        gauge,
        control,
        begun: Some(begin),
        wall: Some(&order.wall),
    };
    run(&engine, &module, launch).await
}

fn load(order: &Order, cache: &Path) -> Result<(Engine, Module), EngineError> {
    let Order { program, profile, counting, policy, .. } = order;
    let cache = Cache::open(cache)?;
    let code = cache.get(&CodeKey::new(program, *profile, *counting));
    let code = code.ok_or_else(|| EngineError::Apart {
        why: "the compiled program is gone from the cache".to_owned(),
    })?;
    // One guest needs no slots.
    let engine = Engine::new(code_profile(*profile), *counting, policy.limits().bounds.stack)?;
    let module = Module::load(&engine, &code)?;
    Ok((engine, module))
}

/// An error with what it comes from, in a line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
