//! `POST /containers/create`: docker's description of a container, read into mote's words.
//!
//! What docker's fields have no words for is said in labels `io.mote.*`. A field that asks for
//! something that mote cannot give is refused by name, and never ignored.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hyper::StatusCode;
use mote_engine::Waiting;
use mote_image::Overrides;
use mote_lifecycle::{
    Grace, HealthCheck, LogDriver, LogSetup, OnFailure, Probe, Removal, RestartPolicy, Rotation,
    Setup, Stdin, Stop, Talks,
};
use mote_spec::{
    Access, Asks, Bytes, Capabilities, CpuShare, DirGrant, Grants, GuestPath, LimitWants, Network,
    Protocol, Publish, Rate, Request, Root, Scratch, SecurityWants,
};
use serde_json::{Value, json};

use super::answer::{self, Reply};
use super::attach::hung_up;
use super::description::{
    HealthSpec, HostSpec, LogSpec, NetworksSpec, RestartSpec, Spec, positive,
};
use super::{Call, refused};
use crate::daemon::Daemon;
use crate::error::{DaemonError, bad};
use crate::probe;
use crate::request::Wanted;

/// What mote adds to docker's words, as labels.
pub const STOP_GRACE: &str = "io.mote.stop-grace";
pub const INVOKE: &str = "io.mote.invoke";
pub const HEALTH_HTTP: &str = "io.mote.health-http";
pub const HEALTH_ON_FAILURE: &str = "io.mote.health-on-failure";
const OWN: [&str; 4] = [STOP_GRACE, INVOKE, HEALTH_HTTP, HEALTH_ON_FAILURE];

/// How many bytes the labels of a container may have together: each event of it tells them.
const MOST_LABELS: usize = 64 << 10;

/// The smallest file that a log is rotated at: twice what is gathered before it is written.
const LEAST_LOG: u64 = 64 << 10;

pub(crate) fn rate(per_second: u64) -> Result<Rate, DaemonError> {
    per_second.to_string().parse().map_err(|error: mote_spec::UnitError| bad(error))
}

/// A share of a CPU from docker's two ways to write one.
pub(crate) fn cpu_share(
    nanos: i64,
    quota: i64,
    period: i64,
) -> Result<Option<CpuShare>, DaemonError> {
    let fraction = match (positive(nanos), positive(quota)) {
        (Some(nanos), _) => nanos as f64 / 1e9,
        // The period that the kernel takes where none is given.
        (None, Some(quota)) => quota as f64 / positive(period).unwrap_or(100_000) as f64,
        (None, None) => return Ok(None),
    };
    let text = format!("{fraction:.3}");
    text.parse().map(Some).map_err(|error: mote_spec::UnitError| bad(error))
}

/// Makes a container.
pub(crate) async fn create(call: Call) -> Reply {
    let daemon = std::sync::Arc::clone(&call.daemon);
    let name = call.query.text("name").map(|name| name.trim_start_matches('/').to_owned());
    let asked: Value = call.json()?;
    let warnings = warnings(&asked);
    // Volumes that it is made with are not pruned before it is recorded.
    let _using = daemon.volumes.using().await;
    let reading = {
        let daemon = std::sync::Arc::clone(&daemon);
        tokio::task::spawn_blocking(move || wanted(&daemon, name.as_deref(), asked))
    };
    let wanted =
        reading.await.map_err(|_| DaemonError::Failed("making it failed".to_owned()))??;
    let (name, image) = (wanted.name.clone(), wanted.image.clone());
    // Creation goes on when its client leaves, but for a compilation, which then ends.
    let waiting = Waiting::new();
    let mut creating = std::pin::pin!(daemon.create(wanted, waiting.wanted()));
    let created = tokio::select! {
        created = &mut creating => created,
        () = hung_up(&call.peer) => {
            drop(waiting);
            creating.await
        }
    };
    let entry = created.inspect_err(|error| {
        daemon.tell_refusal(name.as_ref().map_or("", |name| name.as_str()), &image, error);
    })?;
    let id = entry.record().id.to_string();
    Ok(answer::json_with(StatusCode::CREATED, &json!({ "Id": id, "Warnings": warnings })))
}

/// What was asked for that has no effect, and takes nothing away from what has.
fn warnings(asked: &Value) -> Vec<&'static str> {
    let host = &asked["HostConfig"];
    let number = |key: &str| host[key].as_i64().unwrap_or(0);
    let swap = number("MemorySwap");
    match swap > 0 && swap != number("Memory") {
        true => vec!["--memory-swap has no effect: a guest's memory is bounded by --memory alone"],
        false => Vec::new(),
    }
}

/// Reads what is asked for, and makes the volumes that it names. Blocks.
fn wanted(daemon: &Daemon, name: Option<&str>, asked: Value) -> Result<Wanted, DaemonError> {
    refused::refuse(&asked, &refused::CONFIG)?;
    if let Some(host) = asked.get("HostConfig") {
        refused::refuse(host, &refused::HOST)?;
        refused::refuse(host, &refused::RESOURCES)?;
    }
    let spec: Spec = serde_json::from_value(asked)
        .map_err(|error| bad(format!("the container's description cannot be read: {error}")))?;
    let mut host = spec.host_config.unwrap_or_default();
    let mut labels = spec.labels.unwrap_or_default();
    // Both are the operator's words.
    labels.extend(host.annotations.take().unwrap_or_default());
    if labels.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > MOST_LABELS {
        return Err(bad("the labels have more than 64 KiB together"));
    }
    if let Some(name) = networks(&spec.networking_config).next() {
        return Err(super::unsupported(&format!(
            "network `{name}` is not to be had: mote has no bridges"
        )));
    }
    if spec.image.is_empty() {
        return Err(bad("no image is named"));
    }
    if !matches!(spec.stop_signal.as_str(), "" | "SIGTERM" | "SIGKILL" | "SIGINT" | "TERM") {
        return Err(super::unsupported(
            "--stop-signal means nothing to a Wasm container: WASI has no signals",
        ));
    }
    let said = asks(&labels)?;
    let security = security(&host, &spec.user, &said)?;
    let limits = limits(&host)?.or(said.limits);
    let reservation = positive(host.memory_reservation).map(Bytes::new);
    let health = health(spec.healthcheck, &labels)?;
    let stop = stop(spec.stop_timeout, &labels)?;
    let setup = Setup {
        terminal: if spec.tty { Talks::Terminal } else { Talks::Streams },
        stdin: match (spec.open_stdin, spec.stdin_once) {
            (false, _) => Stdin::Closed,
            (true, true) => Stdin::Once,
            (true, false) => Stdin::Open,
        },
        removal: if host.auto_remove { Removal::AtEnd } else { Removal::ByHand },
        stop,
        log: log(&host.log_config)?,
        health,
        labels: labels.clone(),
        ..Setup::default()
    };
    let restart = host.restart_policy.as_ref().map(RestartSpec::policy).transpose()?.flatten();
    let restart = restart.unwrap_or_default();
    if setup.removal == Removal::AtEnd && restart != RestartPolicy::No {
        // Docker's words first, which its users know.
        return Err(bad(
            "can't create 'AutoRemove' container with restart policy: --rm and --restart exclude each other",
        ));
    }
    let grants = grants(daemon, &host, spec.volumes.unwrap_or_default(), said)?;
    Ok(Wanted {
        name: name.map(str::parse).transpose().map_err(|error: mote_spec::IdError| bad(error))?,
        image: spec.image,
        overrides: Overrides {
            // Docker's client writes an empty list for none.
            entrypoint: spec.entrypoint.filter(|words| !words.is_empty() && words != &[""]),
            args: spec.cmd.unwrap_or_default(),
        },
        env: spec.env.unwrap_or_default().iter().map(|text| variable(text)).collect(),
        cwd: Some(spec.working_dir).filter(|cwd| !cwd.is_empty()),
        invoke: labels.get(INVOKE).cloned(),
        request: Request { limits, grants, security },
        reservation,
        restart,
        setup,
    })
}

/// The networks that a container is to be connected to, besides what docker's clients name as usual.
fn networks(spec: &NetworksSpec) -> impl Iterator<Item = &str> {
    let names = spec.endpoints_config.iter().flat_map(BTreeMap::keys).map(String::as_str);
    names.filter(|name| !matches!(*name, "" | "default" | "bridge" | "none" | "host"))
}

fn variable(text: &str) -> (String, Option<String>) {
    match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (text.to_owned(), None),
    }
}

/// What the operator's own labels ask for.
fn asks(labels: &BTreeMap<String, String>) -> Result<Asks, DaemonError> {
    let mut said = labels.clone();
    said.retain(|key, _| !OWN.contains(&key.as_str()));
    Ok(Asks::from_annotations(&said)?)
}

/// Docker's words for what stands behind the sandbox.
fn security(host: &HostSpec, user: &str, said: &Asks) -> Result<SecurityWants, DaemonError> {
    let error = |error: mote_spec::SecurityError| bad(error);
    let read = |names: &Option<Vec<String>>| -> Result<Vec<Capabilities>, DaemonError> {
        names.iter().flatten().map(|name| name.parse().map_err(error)).collect()
    };
    let mut wants = SecurityWants {
        isolation: said.isolation,
        user: (!user.is_empty()).then(|| user.parse()).transpose().map_err(error)?,
        cap_add: read(&host.cap_add)?,
        cap_drop: read(&host.cap_drop)?,
        ..SecurityWants::default()
    };
    for option in host.security_opt.iter().flatten() {
        wants.add(option.parse().map_err(error)?);
    }
    if let Some(profile) = &wants.seccomp {
        // Before anything is made.
        mote_engine::SeccompProfile::from_json(profile.as_bytes()).map_err(bad)?;
    }
    Ok(wants)
}

fn limits(host: &HostSpec) -> Result<LimitWants, DaemonError> {
    let mut wants = LimitWants {
        memory: positive(host.memory).map(Bytes::new),
        cpus: cpu_share(host.nano_cpus, host.cpu_quota, host.cpu_period)?,
        ..LimitWants::default()
    };
    for (key, value) in host.storage_opt.iter().flatten() {
        match key.as_str() {
            "size" => {
                wants.storage = Some(value.parse().map_err(|e: mote_spec::UnitError| bad(e))?)
            }
            other => return Err(bad(format!("`{other}` is no storage option: size is"))),
        }
    }
    Ok(wants)
}

fn grants(
    daemon: &Daemon,
    host: &HostSpec,
    nameless: BTreeMap<String, Value>,
    said: Asks,
) -> Result<Grants, DaemonError> {
    let mut grants = Grants { net: said.net, ..Grants::default() };
    if host.readonly_rootfs {
        grants.root = Root::ReadOnly;
    }
    for bind in host.binds.iter().flatten() {
        grants.dirs.push(bound(daemon, bind)?);
    }
    for mount in host.mounts.iter().flatten() {
        match mount.kind.as_str() {
            "bind" => grants.dirs.push(dir(&mount.source, &mount.target, mount.read_only)?),
            "volume" if mount.source.is_empty() => {
                grants.dirs.push(anonymous(daemon, &mount.target, mount.read_only)?);
            }
            "volume" => {
                let volume = daemon.volumes.make(&mount.source, &BTreeMap::new())?;
                let data = volume.data.display().to_string();
                grants.dirs.push(dir(&data, &mount.target, mount.read_only)?);
            }
            "tmpfs" => {
                let size =
                    mount.tmpfs_options.as_ref().and_then(|options| positive(options.size_bytes));
                let size = size.map_or(Scratch::DEFAULT_SIZE, Bytes::new);
                grants.scratch.push(Scratch { guest: guest(&mount.target)?, size });
            }
            other => {
                return Err(super::unsupported(&format!(
                    "mounts of type `{other}` are not to be had: bind, volume and tmpfs are"
                )));
            }
        }
    }
    for (target, options) in host.tmpfs.iter().flatten() {
        let text = if options.is_empty() { target.clone() } else { format!("{target}:{options}") };
        grants.scratch.push(
            text.parse()
                .map_err(|error: mote_spec::GrantError| bad(crate::report::causes(&error)))?,
        );
    }
    for target in nameless.into_keys() {
        let taken = grants.dirs.iter().any(|dir| dir.guest.as_str() == target);
        if !taken {
            grants.dirs.push(anonymous(daemon, &target, false)?);
        }
    }
    match host.network_mode.as_str() {
        // Docker's usual network; what a guest may reach is said by rules here.
        "" | "default" | "bridge" | "none" => {}
        "host" => grants.net.network = Network::Host,
        other => {
            return Err(super::unsupported(&format!(
                "network `{other}` is not to be had: mote has no bridges. Use none or host, and allow connections with the label io.mote.allow-net"
            )));
        }
    }
    grants.net.publish.extend(ports(host)?);
    Ok(grants)
}

/// A volume that nobody named: it outlives its container's runs, and goes with `rm -v` or a prune.
fn anonymous(daemon: &Daemon, target: &str, read_only: bool) -> Result<DirGrant, DaemonError> {
    let volume = daemon.volumes.make_anonymous()?;
    dir(&volume.data.display().to_string(), target, read_only)
}

fn guest(path: &str) -> Result<GuestPath, DaemonError> {
    path.parse().map_err(|error: mote_spec::GrantError| bad(error))
}

fn dir(source: &str, target: &str, read_only: bool) -> Result<DirGrant, DaemonError> {
    let access = if read_only { Access::ReadOnly } else { Access::ReadWrite };
    // Through links once: the ceiling is checked on the real path.
    let host = std::path::Path::new(source).canonicalize().map_err(|error| {
        bad(format!("invalid mount config for type \"bind\": bind source path does not exist or cannot be used: {source}: {error}"))
    })?;
    if !std::path::Path::new(source).is_absolute() {
        return Err(bad(format!(
            "the source of a mount is an absolute path, and `{source}` is not"
        )));
    }
    Ok(DirGrant { host, guest: guest(target)?, access })
}

/// `HOST:GUEST[:ro]`, where a host without a slash is a named volume.
fn bound(daemon: &Daemon, text: &str) -> Result<DirGrant, DaemonError> {
    let grant: DirGrant = text.parse().map_err(|error: mote_spec::GrantError| bad(error))?;
    let source = grant.host.display().to_string();
    let read_only = grant.access == Access::ReadOnly;
    if source.starts_with('/') {
        // As docker's -v has it, a folder that is missing is made; but none that is refused.
        if !daemon.machine.ceiling.volumes.allow(&grant.host) {
            let path = grant.host;
            return Err(mote_spec::PolicyError::VolumeOutside { path }.into());
        }
        std::fs::create_dir_all(&grant.host)
            .map_err(|error| bad(format!("cannot make {source}: {error}")))?;
        return dir(&source, grant.guest.as_str(), read_only);
    }
    let volume = daemon.volumes.make(&source, &BTreeMap::new())?;
    dir(&volume.data.display().to_string(), grant.guest.as_str(), read_only)
}

fn ports(host: &HostSpec) -> Result<Vec<Publish>, DaemonError> {
    let mut ports = Vec::new();
    for (inner, bindings) in host.port_bindings.iter().flatten() {
        let (port, protocol) = inner.split_once('/').unwrap_or((inner, "tcp"));
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            other => return Err(bad(format!("`{other}` is no protocol: tcp and udp are"))),
        };
        let guest = port.parse().map_err(|_| bad(format!("`{port}` is no port")))?;
        for binding in bindings.iter().flatten() {
            let address: IpAddr = match binding.host_ip.as_str() {
                "" => Ipv4Addr::UNSPECIFIED.into(),
                text => text.parse().map_err(|_| bad(format!("`{text}` is no address")))?,
            };
            let port = match binding.host_port.as_str() {
                "" | "0" => {
                    return Err(bad(format!(
                        "name the host's port for {inner}, such as -p 8080:{guest}"
                    )));
                }
                text => text.parse().map_err(|_| bad(format!("`{text}` is no port")))?,
            };
            let publish = Publish { protocol, host: SocketAddr::new(address, port), guest };
            if ports.iter().any(|other: &Publish| {
                (other.protocol, other.host) == (publish.protocol, publish.host)
            }) {
                return Err(bad(format!("{}/{protocol} is published twice", publish.host)));
            }
            ports.push(publish);
        }
    }
    Ok(ports)
}

fn log(spec: &LogSpec) -> Result<LogSetup, DaemonError> {
    let driver: LogDriver = match spec.kind.as_str() {
        "" => LogDriver::default(),
        kind => kind.parse().map_err(bad)?,
    };
    let mut rotation = Rotation::default();
    for (key, value) in spec.config.iter().flatten() {
        match key.as_str() {
            "max-size" => {
                let size: Bytes = value.parse().map_err(|e: mote_spec::UnitError| bad(e))?;
                if size.get() < LEAST_LOG {
                    return Err(bad(format!("max-size is `{value}`; it is 64k at least")));
                }
                rotation.size = size.get();
            }
            "max-file" => {
                let files = value.parse().ok().filter(|files| (1..=1000).contains(files));
                rotation.files = files
                    .ok_or_else(|| bad(format!("max-file is `{value}`; it is from 1 to 1000")))?;
            }
            other => {
                return Err(bad(format!(
                    "`{other}` is no option of a log: max-size and max-file are"
                )));
            }
        }
    }
    Ok(LogSetup { driver, rotation })
}

fn stop(timeout: Option<i64>, labels: &BTreeMap<String, String>) -> Result<Stop, DaemonError> {
    let grace = match labels.get(STOP_GRACE).map(String::as_str) {
        None | Some("interrupt") => Grace::Interrupt,
        Some("stdin") => Grace::Stdin,
        Some(other) => {
            return Err(bad(format!("{STOP_GRACE} is `{other}`: interrupt and stdin are known")));
        }
    };
    let timeout = match timeout {
        Some(seconds) => u32::try_from(seconds).unwrap_or(u32::MAX),
        None => Stop::default().timeout,
    };
    Ok(Stop { grace, timeout })
}

fn health(
    spec: Option<HealthSpec>,
    labels: &BTreeMap<String, String>,
) -> Result<Option<HealthCheck>, DaemonError> {
    let spec = spec.unwrap_or_default();
    let test = spec.test.clone().unwrap_or_default();
    let probe = match (labels.get(HEALTH_HTTP), test.first().map(String::as_str)) {
        (Some(url), _) => {
            probe::check_url(url).map_err(bad)?;
            Some(Probe::Http(url.clone()))
        }
        (None, None | Some("NONE")) => None,
        (None, Some("CMD")) => Some(Probe::Exec(test[1..].to_vec())),
        // There is no shell; what one would part at blanks is parted so.
        (None, Some("CMD-SHELL")) => {
            let words = test[1..].join(" ");
            Some(Probe::Exec(words.split_whitespace().map(str::to_owned).collect()))
        }
        (None, Some(other)) => return Err(bad(format!("`{other}` is no kind of health check"))),
    };
    let on_failure: OnFailure = match labels.get(HEALTH_ON_FAILURE) {
        Some(text) => text.parse().map_err(bad)?,
        None => OnFailure::None,
    };
    let Some(probe) = probe else {
        let HealthSpec { test: _, interval, timeout, start_period, start_interval, retries } = spec;
        let times = [interval, timeout, start_period, start_interval, retries];
        if on_failure == OnFailure::None && times.iter().all(|time| *time <= 0) {
            return Ok(None);
        }
        return Err(bad(
            "it is said how a health check goes, and none is named: add --health-cmd or --health-http",
        ));
    };
    if matches!(&probe, Probe::Exec(command) if command.is_empty()) {
        return Err(bad("the health check names no command"));
    }
    let usual = HealthCheck::new(probe);
    let millis = |nanos: i64, usual: u64| positive(nanos).map_or(usual, |nanos| nanos / 1_000_000);
    Ok(Some(HealthCheck {
        interval_ms: millis(spec.interval, usual.interval_ms),
        timeout_ms: millis(spec.timeout, usual.timeout_ms),
        start_period_ms: millis(spec.start_period, usual.start_period_ms),
        start_interval_ms: millis(spec.start_interval, usual.start_interval_ms),
        retries: positive(spec.retries)
            .map_or(usual.retries, |many| many.try_into().unwrap_or(u32::MAX)),
        on_failure,
        ..usual
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_from_both_of_dockers_words() {
        assert_eq!(cpu_share(250_000_000, 0, 0).unwrap(), Some("0.25".parse().unwrap()));
        assert_eq!(cpu_share(0, 50_000, 100_000).unwrap(), Some("0.5".parse().unwrap()));
        assert_eq!(cpu_share(0, 0, 0).unwrap(), None);
    }

    #[test]
    fn health_checks_are_read() {
        let labels = BTreeMap::new();
        let spec = HealthSpec {
            test: Some(vec!["CMD-SHELL".into(), "check now".into()]),
            interval: 5_000_000_000,
            ..HealthSpec::default()
        };
        let check = health(Some(spec), &labels).unwrap().unwrap();
        assert_eq!(check.probe, Probe::Exec(vec!["check".into(), "now".into()]));
        assert_eq!((check.interval_ms, check.retries), (5_000, 3));
        assert_eq!(health(None, &labels).unwrap(), None);
        let labels = BTreeMap::from([(HEALTH_ON_FAILURE.to_owned(), "restart".to_owned())]);
        assert!(health(None, &labels).is_err());
        let spec = HealthSpec { interval: 1_000_000_000, ..HealthSpec::default() };
        assert!(health(Some(spec), &BTreeMap::new()).is_err(), "times of no check");
    }
}
