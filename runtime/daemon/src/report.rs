//! Says errors with their causes, and how guests ended, for a person.

use std::error::Error;

use mote_engine::{Outcome, Refusal};
use mote_spec::{ExitStatus, Policy};

/// An error and what caused it, on one line.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut said = text.clone();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        // Some libraries repeat their cause in their own text.
        if !said.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        said = more;
        cause = next.source();
    }
    text
}

/// What a person needs to know of a run, in lines: what the guest was refused, and an end that was not
/// its own.
pub fn explain(name: &str, outcome: &Outcome, policy: &Policy) -> Vec<String> {
    let limits = policy.limits();
    let refused = outcome.denied.iter();
    let mut lines: Vec<String> = refused
        .map(|Refusal { what, flag }| format!("{name} was refused {what}; allow it with {flag}"))
        .collect();
    let end = match outcome.status {
        ExitStatus::Exited(_) => return lines,
        ExitStatus::OutOfFuel => format!("{name} ran out of fuel (limit {})", limits.fuel),
        ExitStatus::TimedOut => format!("{name} timed out (limit {})", limits.timeout),
        ExitStatus::OutOfMemory => {
            let how = outcome.detail.as_deref().map(|how| format!("\nit ended with: {how}"));
            format!(
                "{name} ran out of memory (limit {}); give it more with --memory{}",
                limits.memory,
                how.unwrap_or_default()
            )
        }
        ExitStatus::Trapped => {
            format!(
                "{name} trapped: {}",
                outcome.detail.as_deref().unwrap_or("for an unknown reason")
            )
        }
        ExitStatus::Stopped | ExitStatus::Killed | ExitStatus::Lost | ExitStatus::NotStarted => {
            format!("{name} {}", outcome.status)
        }
    };
    lines.push(end);
    lines
}
