//! A program's launch: which function of it is called, with what, and what it is held to.

use std::path::PathBuf;
use std::sync::Arc;

use mote_spec::Policy;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::apart::wall::Wall;
use crate::control::Control;
use crate::gauge::Gauge;
use crate::handles::RootFiles;
use crate::stdio::Stdio;

/// How the program is started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Process {
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: Option<String>,
    pub call: Call,
    pub blocking: Blocking,
}

/// Which function is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// The one that its world begins with.
    Main,
    /// A function without arguments, by name.
    Export(String),
    /// A function with arguments, as a person writes a call: `f(1, 2)`.
    Invoke(String),
}

impl Call {
    /// What a command means to a program that exports these functions: a call as a person writes it,
    /// another run of the program under its own name, or one of its functions with arguments. None if
    /// it is none of these.
    pub fn of_command(command: &[String], own: Option<&str>, functions: &[String]) -> Option<Call> {
        let (first, rest) = command.split_first()?;
        let is_own = own.is_some_and(|own| own == first || own.ends_with(&format!("/{first}")));
        if first.contains('(') {
            return Some(Call::Invoke(command.join(" ")));
        }
        if is_own {
            return Some(Call::Main);
        }
        functions.contains(first).then(|| match rest {
            [] => Call::Export(first.clone()),
            rest => Call::Invoke(format!("{first}({})", rest.join(","))),
        })
    }
}

/// Whether the guest's file operations may block the thread that runs it.
///
/// It saves a change of threads for each; a guest that may be stopped in the middle of one, or
/// that shares its thread with others, must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Blocking {
    Never,
    Allowed,
}

/// All that a program is started with.
pub struct Launch<'a> {
    pub policy: &'a Policy,
    pub process: Process,
    pub stdio: Stdio,
    pub root: Option<RootFiles>,
    /// An empty folder of the container's own; needed for scratch space and a copied root.
    pub scratch: Option<PathBuf>,
    pub gauge: Arc<Gauge>,
    /// Switches that were made for the policy's limits.
    pub control: Arc<Control>,
    /// Told when the program stands, and nothing but its own doing can end it.
    pub begun: Option<oneshot::Sender<()>>,
    /// What this process gives up for good once all that is granted is open.
    pub wall: Option<&'a Wall>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_the_program_or_one_of_its_functions() {
        let functions = ["add".to_owned(), "check".to_owned()];
        let call = |words: &[&str]| {
            let command: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            Call::of_command(&command, Some("/app.wasm"), &functions)
        };
        assert_eq!(call(&["app.wasm", "x"]), Some(Call::Main));
        assert_eq!(call(&["check"]), Some(Call::Export("check".into())));
        assert_eq!(call(&["add", "2", "3"]), Some(Call::Invoke("add(2,3)".into())));
        assert_eq!(call(&["add(2,", "3)"]), Some(Call::Invoke("add(2, 3)".into())));
        assert_eq!(call(&["sh"]), None);
        assert_eq!(call(&[]), None);
    }
}
