//! The mechanisms that confine a guest's process, by their names: which of them a machine may lack, and what it then
//! needs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How much of a wall there has to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layers {
    /// What the kernel has.
    #[default]
    Available,
    /// Every one; one that is missing is an error.
    All,
}

/// A layer that needs something of the kernel, or of whoever runs mote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// Files: only those below the granted directories (landlock(7)).
    Landlock,
    /// TCP: only the granted ports.
    LandlockPorts,
    /// Signals and abstract sockets: none to other processes.
    LandlockScope,
    /// A network without any device, host names and System V IPC of its own.
    Namespaces,
    /// Memory and threads that the kernel bounds.
    Cgroup,
    /// System calls: few.
    Seccomp,
}

impl Layer {
    /// What a machine needs for it.
    pub fn needs(self) -> &'static str {
        match self {
            Layer::Landlock => {
                "a kernel with Landlock: 6.2 or newer, and `landlock` among its LSMs"
            }
            Layer::LandlockPorts => "Landlock of Linux 6.7 or newer",
            Layer::LandlockScope => "Landlock of Linux 6.12 or newer",
            Layer::Namespaces => "root, or user namespaces for everybody",
            Layer::Seccomp => "a processor that filters are made for: x86-64, arm64 or riscv64",
            Layer::Cgroup => "root, and a cgroup hierarchy that can be written to",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layer::Landlock => "Landlock",
            Layer::LandlockPorts => "Landlock for ports",
            Layer::LandlockScope => "Landlock for signals",
            Layer::Namespaces => "namespaces",
            Layer::Cgroup => "a cgroup",
            Layer::Seccomp => "a seccomp filter",
        })
    }
}

/// Layers in a sentence.
pub(crate) fn listed(layers: &[Layer]) -> String {
    layers.iter().map(Layer::to_string).collect::<Vec<_>>().join(", ")
}
