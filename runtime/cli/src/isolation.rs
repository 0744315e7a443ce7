//! Flags that say how a container is walled in besides its sandbox, as docker and podman spell them.

use clap::Args;
use mote_spec::{Capabilities, Isolation, SecurityOpt, SecurityWants, UserId};

use crate::error::CliError;

/// What stands behind the sandbox
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Isolation")]
pub(crate) struct WallArgs {
    /// shared (this process), process (one of its own behind Landlock, seccomp and namespaces), or
    /// process=strict (an error where the kernel lacks a layer) [default: shared]
    #[arg(long, value_name = "HOW")]
    isolation: Option<Isolation>,
    /// Run its process as another user; implies --isolation process
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<UserId>,
    /// Take a capability from its process, or ALL; implies --isolation process
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<Capabilities>,
    /// Refused: a guest makes no system calls
    #[arg(long, value_name = "CAPABILITY", hide = true)]
    cap_add: Vec<Capabilities>,
    /// seccomp=FILE (an OCI profile), apparmor=PROFILE (both imply --isolation process), or
    /// no-new-privileges, which is always so
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<SecurityOpt>,
}

impl WallArgs {
    /// What the flags ask for, where annotations `said` an isolation. Reads profiles.
    pub(crate) fn wants(self, said: Option<Isolation>) -> Result<SecurityWants, CliError> {
        let WallArgs { isolation, user, cap_drop, cap_add, security_opt } = self;
        let mut wants = SecurityWants {
            isolation: isolation.or(said),
            user,
            cap_add,
            cap_drop,
            ..SecurityWants::default()
        };
        for option in security_opt {
            wants.add(match option {
                SecurityOpt::Seccomp(file) => SecurityOpt::Seccomp(read_profile(&file)?),
                other => other,
            });
        }
        Ok(wants)
    }
}

fn read_profile(file: &str) -> Result<String, CliError> {
    std::fs::read_to_string(file).map_err(|error| {
        CliError::new(format!("cannot read the seccomp profile {file}: {error}")).hint(
            "it is written --security-opt seccomp=FILE, and FILE holds an OCI profile in JSON",
        )
    })
}
