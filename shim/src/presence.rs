//! Whether anything of a guest is still there: its future, its process, output on its way.

use std::time::Duration;

use tokio::sync::watch;

/// Held by what belongs to a guest.
pub(crate) type Presence = watch::Receiver<()>;

/// How long what belongs to a guest may outlive it before nobody waits for it any more. Output has less.
const LINGERS: Duration = Duration::from_secs(4);

/// Sees what belongs to a guest.
#[derive(Debug)]
pub(crate) struct Attendance(watch::Sender<()>);

impl Attendance {
    pub(crate) fn new() -> (Attendance, Presence) {
        let (here, presence) = watch::channel(());
        (Attendance(here), presence)
    }

    /// Waits until nothing is left, as long as that may take.
    pub(crate) async fn over(&self) {
        if tokio::time::timeout(LINGERS, self.0.closed()).await.is_err() {
            tracing::warn!("a guest has ended, and something of it is still there");
        }
    }
}
