//! The verbs, one file each.

mod check;
mod compile;
mod completion;
mod containerd_program;
mod control;
mod cp;
mod create;
mod daemon;
mod df;
mod each;
mod history;
mod images;
mod import;
mod info;
mod inspect;
mod lifecycle;
mod load;
mod login;
mod logout;
mod port;
mod ps;
mod pull;
mod rmi;
mod run;
mod save;
mod security;
mod shim;
mod stats;
mod streams;
mod tag;
mod version;
mod volume;

use clap::Subcommand;

use crate::app::{App, programs};
use crate::demo;
use crate::error::CliError;

pub(crate) use daemon::socket as daemon_socket;

/// What to do
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    Run(run::RunArgs),
    Create(create::CreateArgs),
    Start(lifecycle::StartArgs),
    Ps(ps::PsArgs),
    Stop(control::StopArgs),
    Kill(control::KillArgs),
    Pause(control::PauseArgs),
    Unpause(control::UnpauseArgs),
    Restart(lifecycle::RestartArgs),
    Update(control::UpdateArgs),
    Rename(lifecycle::RenameArgs),
    Rm(lifecycle::RmArgs),
    Wait(lifecycle::WaitArgs),
    Attach(streams::AttachArgs),
    Exec(streams::ExecArgs),
    Logs(streams::LogsArgs),
    Events(streams::EventsArgs),
    Port(port::PortArgs),
    Cp(cp::CpArgs),
    Prune(lifecycle::PruneArgs),
    #[command(subcommand)]
    Volume(volume::Volume),
    Stats(stats::StatsArgs),
    Pull(pull::PullArgs),
    Images(images::ImagesArgs),
    Rmi(rmi::RmiArgs),
    Tag(tag::TagArgs),
    Import(import::ImportArgs),
    Inspect(inspect::InspectArgs),
    History(history::HistoryArgs),
    Security(security::SecurityArgs),
    Save(save::SaveArgs),
    Load(load::LoadArgs),
    Login(login::LoginArgs),
    Logout(logout::LogoutArgs),
    Daemon(daemon::DaemonArgs),
    #[command(subcommand)]
    Shim(shim::Shim),
    Compile(compile::CompileArgs),
    Demo(demo::DemoArgs),
    Info(info::InfoArgs),
    Version(version::VersionArgs),
    #[command(subcommand)]
    System(System),
    Completion(completion::CompletionArgs),
    Man(completion::ManArgs),
    #[command(hide = true)]
    ContainerdProgram(containerd_program::ContainerdProgramArgs),
}

/// What processes of mote ask each other for, which need no configuration: one has read it for them
#[derive(Subcommand, Debug)]
pub(crate) enum Own {
    #[command(hide = true)]
    CompileWorker(compile::WorkerArgs),
    /// Run one guest, as the socket at standard input says; for mote itself
    #[command(hide = true)]
    GuestWorker,
    /// Start processes, as the socket at standard input says; for mote itself
    #[command(hide = true)]
    Spawner,
}

/// Look after the images of this machine
#[derive(Subcommand, Debug)]
pub(crate) enum System {
    Df(df::DfArgs),
    Check(check::CheckArgs),
}

impl Command {
    /// Carries the command out, and returns the exit code.
    pub(crate) fn exec(self, app: &App) -> Result<u8, CliError> {
        let done = |result: Result<(), CliError>| result.map(|()| 0);
        match self {
            Command::Run(args) => args.exec(app),
            Command::Create(args) => done(args.exec(app)),
            Command::Start(args) => args.exec(app),
            Command::Restart(args) => args.exec(app),
            Command::Rename(args) => done(args.exec(app)),
            Command::Rm(args) => args.exec(app),
            Command::Wait(args) => args.exec(app),
            Command::Attach(args) => args.exec(app),
            Command::Exec(args) => args.exec(app),
            Command::Logs(args) => done(args.exec(app)),
            Command::Events(args) => done(args.exec(app)),
            Command::Port(args) => done(args.exec(app)),
            Command::Cp(args) => done(args.exec(app)),
            Command::Prune(args) => done(args.exec(app)),
            Command::Volume(volume) => volume.exec(app),
            Command::Ps(args) => done(args.exec(app)),
            Command::Stop(args) => args.exec(app),
            Command::Kill(args) => args.exec(app),
            Command::Pause(args) => args.exec(app),
            Command::Unpause(args) => args.exec(app),
            Command::Update(args) => args.exec(app),
            Command::Stats(args) => args.exec(app),
            Command::Pull(args) => done(args.exec(app)),
            Command::Images(args) => done(args.exec(app)),
            Command::Rmi(args) => args.exec(app),
            Command::Tag(args) => done(args.exec(app)),
            Command::Import(args) => done(args.exec(app)),
            Command::Inspect(args) => done(args.exec(app)),
            Command::History(args) => done(args.exec(app)),
            Command::Security(args) => args.exec(app),
            Command::Save(args) => done(args.exec(app)),
            Command::Load(args) => done(args.exec(app)),
            Command::Login(args) => done(args.exec(app)),
            Command::Logout(args) => done(args.exec(app)),
            Command::Daemon(args) => done(args.exec(app)),
            Command::Shim(shim) => done(shim.exec()),
            Command::Compile(args) => done(args.exec(app)),
            Command::Demo(args) => done(args.exec()),
            Command::Info(args) => done(args.exec(app)),
            Command::Version(args) => done(args.exec()),
            Command::System(System::Df(args)) => done(args.exec(app)),
            Command::System(System::Check(args)) => args.exec(app),
            Command::Completion(args) => done(args.exec()),
            Command::Man(args) => done(args.exec()),
            Command::ContainerdProgram(args) => done(args.exec()),
        }
    }
}

impl Own {
    /// Carries it out.
    pub(crate) fn exec(self) -> Result<(), CliError> {
        let failed =
            |error| CliError::new(format!("cannot do what a process of mote is for: {error}"));
        // `ps` and `top` would call it `exe`, as which it was started.
        let name = match self {
            Own::CompileWorker(_) => c"mote-compiler",
            Own::GuestWorker => c"mote-guest",
            Own::Spawner => c"mote-spawner",
        };
        rustix::thread::set_name(name).map_err(|error| failed(error.into()))?;
        match self {
            Own::CompileWorker(args) => args.exec(),
            Own::GuestWorker => mote_engine::work().map_err(failed),
            Own::Spawner => mote_engine::serve_spawner(&programs()).map_err(failed),
        }
    }
}
