//! The five programs of the demo, as text, with the flags that each runs under.

use mote_spec::{ExitStatus, Request};

use crate::error::CliError;

/// One program, and what is to be seen.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) story: &'static str,
    pub(crate) flags: &'static [&'static str],
    pub(crate) text: &'static str,
    pub(crate) ends: ExitStatus,
}

pub(crate) const WORKLOADS: [Workload; 5] = [
    Workload {
        name: "filter",
        story: "A sensor filter smooths 1,000 readings and prints their mean.",
        flags: &["--memory 2m"],
        text: include_str!("workloads/filter.wat"),
        ends: ExitStatus::Exited(0),
    },
    Workload {
        name: "snoop",
        story: "A curious one looks for /etc/passwd, which nobody granted to it.",
        flags: &[],
        text: include_str!("workloads/snoop.wat"),
        ends: ExitStatus::Exited(1),
    },
    Workload {
        name: "runaway",
        story: "A runaway loops for ever, and is stopped when its fuel is used up.",
        flags: &["--fuel 5000000"],
        text: include_str!("workloads/runaway.wat"),
        ends: ExitStatus::OutOfFuel,
    },
    Workload {
        name: "hungry",
        story: "A hungry one takes memory until it gets no more.",
        flags: &["--memory 16m"],
        text: include_str!("workloads/hungry.wat"),
        ends: ExitStatus::OutOfMemory,
    },
    Workload {
        name: "busy",
        story: "A busy one computes without pause for two seconds, held to a quarter of a CPU.",
        flags: &["--cpus 0.25", "--timeout 2s"],
        text: include_str!("workloads/busy.wat"),
        ends: ExitStatus::TimedOut,
    },
];

impl Workload {
    /// The flags as the request that they parse into.
    pub(crate) fn request(&self) -> Result<Request, CliError> {
        let words = self.flags.iter().flat_map(|flag| flag.split(' '));
        crate::args::parse(words)
    }
}
