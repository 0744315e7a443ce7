//! The `mote` command: arguments to requests, one file per verb. The only place that exits.

#![allow(
    rustdoc::bare_urls,
    rustdoc::broken_intra_doc_links,
    reason = "these comments are the help that a terminal shows"
)]

mod app;
mod args;
mod client;
mod commands;
mod config;
mod container;
mod containerd;
mod demo;
mod ends;
mod environment;
mod error;
mod fetch;
mod find;
mod isolation;
mod launch;
mod output;
mod progress;
mod registry;
mod template;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::app::{App, Globals};
use crate::commands::{Command, Own};

/// Pull and run WebAssembly containers
#[derive(Parser, Debug)]
#[command(name = "mote", version, max_term_width = 100, propagate_version = false)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Verb,
}

/// What to do
#[derive(Subcommand, Debug)]
enum Verb {
    #[command(flatten)]
    Command(Box<Command>),
    #[command(flatten)]
    Own(Own),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let result = match cli.verb {
        Verb::Own(own) => own.exec().map(|()| 0),
        Verb::Command(command) => App::new(&cli.globals).and_then(|app| command.exec(&app)),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output::error(&error.to_string());
            ExitCode::from(error.code())
        }
    }
}

/// Help and version are no errors; a wrong flag is 125, as podman and docker have it.
fn usage(error: &clap::Error) -> ExitCode {
    // What cannot be printed cannot be reported either.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(125) } else { ExitCode::SUCCESS }
}
