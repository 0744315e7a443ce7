//! What a container runs: a guest that is polled, and gone when it is dropped.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mote_engine::{Control, Gauge};
use mote_spec::ExitStatus;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::record::Record;

/// What runs a container's guest: the engine, or a test's that pretends to.
pub trait Workload: Send + Sync + 'static {
    /// Prepares a run of what the record says. The error is for a person.
    fn start(&self, record: &Record) -> impl Future<Output = Result<Running, String>> + Send;
}

/// A guest that runs while it is polled, and is gone when it is dropped.
pub struct Running {
    pub guest: Pin<Box<dyn Future<Output = Ended> + Send>>,
    pub control: Arc<Control>,
    pub gauge: Arc<Gauge>,
}

/// How long a start waits to see whether the guest stands. One that takes longer is told of later.
const STANDS: Duration = Duration::from_secs(1);

impl Running {
    /// A guest that runs in a task of its own, once it stands: `begun` is told then. It ends when this is
    /// dropped.
    ///
    /// # Errors
    /// Fails with a text for a person if it does not get as far as its first instruction.
    pub async fn of_task(
        task: JoinHandle<Ended>,
        begun: oneshot::Receiver<()>,
        (gauge, control): (Arc<Gauge>, Arc<Control>),
    ) -> Result<Running, String> {
        let mut guest = Task(task);
        if let Ok(Err(_)) = tokio::time::timeout(STANDS, begun).await {
            // It has ended before it began.
            let ended = (&mut guest).await;
            if ended.status == ExitStatus::NotStarted {
                return Err(ended.detail.unwrap_or_else(|| ended.status.to_string()));
            }
            return Ok(Running { guest: Box::pin(std::future::ready(ended)), control, gauge });
        }
        Ok(Running { guest: Box::pin(guest), control, gauge })
    }
}

/// A guest's task, which ends when this is dropped.
struct Task(JoinHandle<Ended>);

impl Future for Task {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        Pin::new(&mut self.0).poll(cx).map(|ended| {
            ended.unwrap_or_else(|error| Ended {
                status: ExitStatus::Killed,
                detail: Some(format!("its task ended before it: {error}")),
            })
        })
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How a guest ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub status: ExitStatus,
    pub detail: Option<String>,
}
