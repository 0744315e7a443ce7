//! Outcome of a run, and its words for a person.

use mote_spec::{ExitStatus, Policy};
use serde::{Deserialize, Serialize};

use crate::denied::Refusal;
use crate::mechanisms::{Layer, listed};

/// How a program ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    pub status: ExitStatus,
    /// What a person wants to know of a trap: its reason and the Wasm stack.
    pub detail: Option<String>,
    /// What a called function returned.
    pub results: Vec<String>,
    pub fuel_used: Option<u64>,
    /// What the guest was refused.
    pub denied: Vec<Refusal>,
    /// What its process was without, that this machine does not have.
    pub lacks: Vec<Layer>,
}

impl Outcome {
    /// The outcome of a guest that somebody else ended.
    pub fn of_status(status: ExitStatus) -> Outcome {
        Outcome {
            status,
            detail: None,
            results: Vec::new(),
            fuel_used: None,
            denied: Vec::new(),
            lacks: Vec::new(),
        }
    }

    /// What a person needs to know of a run, in lines: what the guest was refused, and an end that was
    /// not its own.
    pub fn explain(&self, name: &str, policy: &Policy) -> Vec<String> {
        let limits = policy.limits();
        let refused = self.denied.iter();
        let mut lines: Vec<String> = refused
            .map(|Refusal { what, flag }| {
                format!("{name} was refused {what}; allow it with {flag}")
            })
            .collect();
        if !self.lacks.is_empty() {
            let lacks = listed(&self.lacks);
            lines.push(format!("{name} ran without {lacks}: `mote security` tells what they need"));
        }
        let end = match self.status {
            ExitStatus::Exited(_) => return lines,
            ExitStatus::OutOfFuel => format!("{name} ran out of fuel (limit {})", limits.fuel),
            ExitStatus::TimedOut => format!("{name} timed out (limit {})", limits.timeout),
            ExitStatus::OutOfMemory => {
                let how = self.detail.as_deref().map(|how| format!("\nit ended with: {how}"));
                format!(
                    "{name} ran out of memory (limit {}); give it more with --memory{}",
                    limits.memory,
                    how.unwrap_or_default()
                )
            }
            ExitStatus::Trapped => {
                format!(
                    "{name} trapped: {}",
                    self.detail.as_deref().unwrap_or("for an unknown reason")
                )
            }
            ExitStatus::Stopped
            | ExitStatus::Killed
            | ExitStatus::Lost
            | ExitStatus::NotStarted => {
                format!("{name} {}", self.status)
            }
        };
        lines.push(end);
        lines
    }
}
