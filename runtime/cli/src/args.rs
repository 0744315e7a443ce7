//! Flags that say what a container may touch and consume. Docker's and podman's spelling, and
//! wasmtime's beside them; all of them parse into the types of `spec`.

use clap::Args;
use mote_spec::{
    Bytes, CpuShare, DirGrant, Dns, Fuel, Grants, HttpRule, LimitWants, Mount, NetGrants, NetRule,
    Network, Publish, Rate, Request, Root, Scratch, Timeout,
};

use crate::error::CliError;
use crate::isolation::WallArgs;

/// What the container may touch
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Grants")]
pub(crate) struct GrantArgs {
    /// Grant a directory; for the daemon NAME:GUEST is a named volume
    #[arg(short, long = "volume", value_name = "HOST:GUEST[:ro]")]
    volume: Vec<DirGrant>,
    /// Grant a directory, as wasmtime spells it
    #[arg(long, value_name = "HOST[::GUEST]", value_parser = parse_dir)]
    dir: Vec<DirGrant>,
    /// Grant a directory or scratch space, as docker spells it
    #[arg(long, value_name = "type=bind,source=DIR,target=DIR")]
    mount: Vec<Mount>,
    /// Give scratch space, empty at the start and gone at the end
    #[arg(long, value_name = "GUEST[:size=N]")]
    tmpfs: Vec<Scratch>,
    /// Show the image's own files read-only instead of a private copy
    #[arg(long)]
    read_only: bool,
    /// Allow outgoing connections, such as tcp://db.example.com:5432 or udp://10.0.0.0/8:53
    #[arg(long, value_name = "RULE")]
    allow_net: Vec<NetRule>,
    /// Allow outgoing HTTP requests, such as https://api.example.com/v1
    #[arg(long, value_name = "URL")]
    allow_http: Vec<HttpRule>,
    /// Allow to look up any name, not only those of the rules
    #[arg(long)]
    allow_dns: bool,
    /// Listen on a port
    #[arg(short, long, value_name = "[ADDR:]HOST:GUEST[/udp]")]
    publish: Vec<Publish>,
    /// none (only what rules allow), or host for everything that the host can reach
    #[arg(long, value_name = "NETWORK")]
    network: Option<Network>,
    #[command(flatten)]
    security: WallArgs,
}

/// What the container may consume
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Memory, such as 64m
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<Bytes>,
    /// Share of a CPU, such as 0.5
    #[arg(long, value_name = "SHARE")]
    cpus: Option<CpuShare>,
    /// Instructions in total
    #[arg(long, value_name = "N")]
    fuel: Option<Fuel>,
    /// Time, such as 5s
    #[arg(long, value_name = "TIME")]
    timeout: Option<Timeout>,
    /// Bytes written to directories and scratch space, as size=N
    #[arg(long, value_name = "size=N", value_parser = parse_storage)]
    storage_opt: Option<Bytes>,
    /// Network bytes in a second, such as 1m
    #[arg(long, value_name = "RATE")]
    net_rate: Option<Rate>,
    /// Limits as wasmtime spells them: fuel=N, timeout=T, max-memory-size=BYTES
    #[arg(short = 'W', value_name = "KEY=VALUE[,…]", value_parser = parse_wasm)]
    wasm: Vec<LimitWants>,
}

/// `--dir DIR` alone shows the directory under its own name, as wasmtime does.
fn parse_dir(text: &str) -> Result<DirGrant, String> {
    let full = if text.contains("::") { text.to_owned() } else { format!("{text}::{text}") };
    let full = full.strip_suffix("::.").map_or(full.clone(), |host| format!("{host}::/"));
    full.parse().map_err(|error: mote_spec::GrantError| error.to_string())
}

fn parse_storage(text: &str) -> Result<Bytes, String> {
    let size = text.strip_prefix("size=").ok_or("the only storage option is size=N")?;
    size.parse().map_err(|error: mote_spec::UnitError| error.to_string())
}

fn parse_wasm(text: &str) -> Result<LimitWants, String> {
    let mut wants = LimitWants::default();
    for option in text.split(',') {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let bad = |error: mote_spec::UnitError| error.to_string();
        match key {
            "fuel" => wants.fuel = Some(value.parse().map_err(bad)?),
            "timeout" => wants.timeout = Some(value.parse().map_err(bad)?),
            "max-memory-size" => wants.memory = Some(value.parse().map_err(bad)?),
            other => {
                return Err(format!("`{other}` is not one of fuel, timeout and max-memory-size"));
            }
        }
    }
    Ok(wants)
}

/// What the source of a volume is that is a name without a slash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BareName {
    /// A folder beside the command, which is all that a terminal has.
    Folder,
    /// A named volume of the daemon.
    Volume,
}

/// The operator's request: flags first, then what annotations of the operator's own say.
pub(crate) fn request(
    mut grants: GrantArgs,
    limits: LimitArgs,
    said: mote_spec::Asks,
    bare: BareName,
) -> Result<Request, CliError> {
    let mut wants = limits.wants();
    for wasm in &limits.wasm {
        wants = wants.or(*wasm);
    }
    let security = std::mem::take(&mut grants.security).wants(said.isolation)?;
    let grants = grants.grants(said.net, bare)?;
    Ok(Request { limits: wants.or(said.limits), grants, security })
}

impl LimitArgs {
    fn wants(&self) -> LimitWants {
        LimitWants {
            memory: self.memory,
            cpus: self.cpus,
            fuel: self.fuel,
            timeout: self.timeout,
            storage: self.storage_opt,
            net_rate: self.net_rate,
        }
    }
}

impl GrantArgs {
    fn grants(self, said: NetGrants, bare: BareName) -> Result<Grants, CliError> {
        let mut scratch = self.tmpfs;
        // Only `-v` names volumes; these are folders.
        let mut folders = self.dir;
        for mount in self.mount {
            match mount {
                Mount::Dir(dir) => folders.push(dir),
                Mount::Scratch(space) => scratch.push(space),
            }
        }
        let mut dirs = self.volume;
        let is_path = |dir: &DirGrant| match bare {
            BareName::Folder => true,
            BareName::Volume => {
                let text = dir.host.to_string_lossy();
                text.contains('/') || text.starts_with('.')
            }
        };
        for dir in dirs.iter_mut().filter(|dir| is_path(dir)).chain(&mut folders) {
            dir.host = real_path(&dir.host).map_err(|error| {
                CliError::new(format!("cannot use {}: {error}", dir.host.display()))
            })?;
        }
        dirs.append(&mut folders);
        let net = NetGrants {
            network: self.network.unwrap_or(said.network),
            connect: [self.allow_net, said.connect].concat(),
            http: [self.allow_http, said.http].concat(),
            dns: if self.allow_dns { Dns::Allowed } else { said.dns },
            publish: [self.publish, said.publish].concat(),
        };
        let root = if self.read_only { Root::ReadOnly } else { Root::Copy };
        Ok(Grants { dirs, scratch, root, net })
    }
}

/// The path without links, on which the ceiling is then checked; what is not there is said later.
fn real_path(path: &std::path::Path) -> std::io::Result<std::path::PathBuf> {
    match path.canonicalize() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => std::path::absolute(path),
        other => other,
    }
}

/// Flags of grants and limits alone, as a command of their own.
#[derive(clap::Parser)]
struct Both {
    #[command(flatten)]
    grants: GrantArgs,
    #[command(flatten)]
    limits: LimitArgs,
}

/// Parses flags that are not on the command line.
pub(crate) fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Request, CliError> {
    use clap::Parser;
    let words = std::iter::once("mote").chain(words);
    let both = Both::try_parse_from(words).map_err(|error| CliError::new(error.to_string()))?;
    request(both.grants, both.limits, mote_spec::Asks::default(), BareName::Folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Request {
        parse(args.iter().copied()).unwrap()
    }

    #[test]
    fn two_spellings_ask_for_the_same() {
        let docker = read(&[
            "-v",
            "/a:/b",
            "-m",
            "64m",
            "--fuel",
            "9",
            "--timeout",
            "2s",
            "--tmpfs",
            "/t:size=1m",
        ]);
        let wasmtime = read(&[
            "--dir",
            "/a::/b",
            "-W",
            "max-memory-size=67108864,fuel=9",
            "-W",
            "timeout=2s",
            "--mount",
            "type=tmpfs,target=/t,tmpfs-size=1m",
        ]);
        assert_eq!(docker, wasmtime);
    }

    #[test]
    fn a_directory_alone_keeps_its_name() {
        assert_eq!(read(&["--dir", "/srv/a"]), read(&["-v", "/srv/a:/srv/a"]));
        assert_eq!(read(&["--dir", "/srv/a::."]), read(&["-v", "/srv/a:/"]));
    }
}
