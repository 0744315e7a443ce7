//! Reaps what nobody waits for: processes that native containers in the machine's own pid namespace leave
//! behind become children of the shim, which takes over what its OCI runtime makes.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions};
use tokio::signal::unix::{SignalKind, signal};

/// How long whoever waits for a child may take to do so.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reaps for as long as it is polled.
///
/// # Errors
/// Fails if ends of children cannot be heard of.
pub(crate) async fn reap(patience: Duration) -> io::Result<()> {
    let mut ended = signal(SignalKind::child())?;
    while ended.recv().await.is_some() {
        let mut seen = zombies();
        while !seen.is_empty() {
            tokio::time::sleep(patience).await;
            let left = zombies();
            for pid in left.intersection(&seen).filter_map(|pid| Pid::from_raw(*pid)) {
                tracing::debug!(%pid, "reaped");
                // Somebody may have come after all.
                let _ = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
            }
            seen = left.difference(&seen).copied().collect();
        }
    }
    Ok(())
}

/// Reaps in a task of its own.
pub(crate) fn watch() {
    tokio::spawn(async {
        if let Err(error) = reap(PATIENCE).await {
            tracing::warn!(%error, "orphans are not reaped");
        }
    });
}

/// Children that have ended and are not waited for. Their numbers are theirs until they are.
fn zombies() -> BTreeSet<i32> {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let children = threads
        .map(|thread| std::fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    let children: String = children.collect();
    let pids = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    pids.filter(|pid| is_zombie(*pid)).collect()
}

fn is_zombie(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Its name, in parentheses, may have any letters.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[expect(clippy::zombie_processes, reason = "that is what is tried")]
    async fn a_child_that_nobody_waits_for_is_reaped() {
        let reaping = tokio::spawn(reap(Duration::from_millis(1)));
        tokio::task::yield_now().await;
        let child = std::process::Command::new("true").spawn().unwrap();
        let place = format!("/proc/{}", child.id());
        while std::path::Path::new(&place).exists() {
            tokio::task::yield_now().await;
        }
        reaping.abort();
    }
}
