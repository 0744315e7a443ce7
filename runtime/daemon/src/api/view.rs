//! Containers as docker's clients see them.

use mote_lifecycle::{Health, Record, RestartPolicy, Status, Stdin, Talks, Time};
use mote_spec::{Access, Capability, ExitStatus, Limit, Network, Root, Security};
use serde_json::{Map, Value, json};

use crate::entry::Entry;

/// The moment that docker shows where there is none.
const NEVER: &str = "0001-01-01T00:00:00Z";

fn time(time: Option<Time>) -> String {
    time.map_or_else(|| NEVER.to_owned(), |time| time.to_string())
}

/// A status in docker's one word.
pub(crate) fn state(record: &Record, waits_to_restart: bool) -> &'static str {
    match record.status() {
        Status::Created => "created",
        Status::Running => "running",
        Status::Paused => "paused",
        Status::Stopped(_) if waits_to_restart => "restarting",
        Status::Stopped(_) => "exited",
        Status::Removed => "removing",
    }
}

/// A span as docker shows it: `3 minutes`.
pub(crate) fn span(seconds: u64) -> String {
    let some = |count: u64, unit: &str| match count {
        1 if unit == "hour" => "About an hour".to_owned(),
        1 if unit == "minute" => "About a minute".to_owned(),
        count => format!("{count} {unit}s"),
    };
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => some(seconds, "second"),
        60..3_600 => some(seconds / 60, "minute"),
        3_600..172_800 => some(seconds / 3_600, "hour"),
        172_800..1_209_600 => some(seconds / 86_400, "day"),
        1_209_600..5_184_000 => some(seconds / 604_800, "week"),
        _ => some(seconds / 2_592_000, "month"),
    }
}

/// What `ps` shows in its column of the status.
fn status(record: &Record, waits: bool, now: Time) -> String {
    let since = |from: Option<Time>| span(from.map_or(0, |from| now.since(from).as_secs()));
    let health = record.health.map_or_else(String::new, |health| match health {
        mote_lifecycle::HealthStatus::Starting => " (health: starting)".to_owned(),
        other => format!(" ({other})"),
    });
    match record.status() {
        Status::Created => "Created".to_owned(),
        Status::Running => format!("Up {}{health}", since(record.started)),
        Status::Paused => format!("Up {} (Paused)", since(record.started)),
        Status::Stopped(how) => {
            let word = if waits { "Restarting" } else { "Exited" };
            format!("{word} ({}) {} ago", how.code(), since(record.finished))
        }
        Status::Removed => "Removal In Progress".to_owned(),
    }
}

fn image_id(record: &Record) -> String {
    record.image.manifest.as_ref().unwrap_or(&record.image.digest).to_string()
}

/// The command as one line.
fn command(record: &Record) -> String {
    record.args.join(" ")
}

fn network_mode(record: &Record) -> &'static str {
    match record.policy.grants().net.network {
        Network::Rules => "none",
        Network::Host => "host",
    }
}

/// One entry of the list of containers.
pub(crate) fn summary(entry: &Entry, now: Time) -> Value {
    let (record, waits) = (entry.record(), entry.container.waits_to_restart());
    let record = &*record;
    let ports: Vec<Value> = record
        .policy
        .grants()
        .net
        .publish
        .iter()
        .map(|port| {
            json!({
                "IP": port.host.ip().to_string(),
                "PrivatePort": port.guest,
                "PublicPort": port.host.port(),
                "Type": port.protocol.to_string(),
            })
        })
        .collect();
    json!({
        "Id": record.id.as_str(),
        "Names": [format!("/{}", record.name)],
        "Image": record.image.name,
        "ImageID": image_id(record),
        "Command": command(record),
        "Created": record.created.millis() / 1000,
        "Ports": ports,
        "Labels": record.setup.labels,
        "State": state(record, waits),
        "Status": status(record, waits, now),
        "HostConfig": { "NetworkMode": network_mode(record) },
        "NetworkSettings": { "Networks": {} },
        "Mounts": mounts(record),
    })
}

/// The entry of a container whose record cannot be read.
pub(crate) fn unreadable(id: &str, why: &str) -> Value {
    json!({
        "Id": id,
        "Names": [format!("/{}", id.get(..12).unwrap_or(id))],
        "Image": "", "ImageID": "", "Command": "", "Created": 0, "Ports": [], "Labels": {},
        "State": "dead",
        "Status": format!("Dead (its record cannot be read: {why})"),
        "HostConfig": {}, "NetworkSettings": { "Networks": {} }, "Mounts": [],
    })
}

fn mounts(record: &Record) -> Vec<Value> {
    let grants = record.policy.grants();
    let dirs = grants.dirs.iter().map(|dir| {
        // A named volume's folder is `…/volumes/NAME/_data`.
        let volume = dir.host.ends_with("_data").then(|| dir.host.parent()).flatten();
        let name = volume.and_then(|folder| folder.file_name()).map(|name| name.to_string_lossy());
        let mut mount = json!({
            "Type": if name.is_some() { "volume" } else { "bind" },
            "Source": dir.host.display().to_string(),
            "Destination": dir.guest.as_str(),
            "Mode": if dir.access == Access::ReadOnly { "ro" } else { "" },
            "RW": dir.access == Access::ReadWrite,
            "Propagation": "rprivate",
        });
        if let Some(name) = name {
            mount["Name"] = json!(name);
            mount["Driver"] = json!("local");
        }
        mount
    });
    let scratch = grants.scratch.iter().map(|space| {
        json!({
            "Type": "tmpfs",
            "Source": "",
            "Destination": space.guest.as_str(),
            "Mode": "",
            "RW": true,
            "Propagation": "",
        })
    });
    dirs.chain(scratch).collect()
}

/// Ports by the guest's end, as docker groups them.
pub(crate) fn port_map(record: &Record) -> Value {
    let mut all: Map<String, Value> = Map::new();
    for port in &record.policy.grants().net.publish {
        let binding = json!({
            "HostIp": port.host.ip().to_string(),
            "HostPort": port.host.port().to_string(),
        });
        let list = all.entry(format!("{}/{}", port.guest, port.protocol)).or_insert(json!([]));
        list.as_array_mut().expect("it was made as a list").push(binding);
    }
    Value::Object(all)
}

fn restart_policy(policy: RestartPolicy) -> Value {
    let (name, most) = match policy {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::OnFailure(most) => ("on-failure", most.unwrap_or(0)),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
    };
    json!({ "Name": name, "MaximumRetryCount": most })
}

fn limit<T: std::fmt::Display>(limit: Limit<T>) -> Value {
    match limit {
        Limit::AtMost(most) => json!(most.to_string()),
        Limit::Unlimited => Value::Null,
    }
}

/// The profiles of a container's process, in docker's words.
fn options(security: &Security) -> Value {
    let option = |key: &str, value: &Option<String>| {
        value.as_ref().map(|value| json!(format!("{key}={value}")))
    };
    let all = [option("seccomp", &security.seccomp), option("apparmor", &security.apparmor)];
    let all: Vec<Value> = all.into_iter().flatten().collect();
    if all.is_empty() { Value::Null } else { Value::Array(all) }
}

/// All that is known of a container.
pub(crate) fn inspect(entry: &Entry, execs: &[String]) -> Value {
    let record = entry.record();
    let (limits, grants) = (record.policy.limits(), record.policy.grants());
    let security = record.policy.security();
    let dropped: Vec<String> = security.dropped.iter().map(Capability::full_name).collect();
    let (path, args) = match record.args.split_first() {
        Some((first, rest)) => (first.clone(), rest.to_vec()),
        None => (String::new(), Vec::new()),
    };
    let env: Vec<String> =
        record.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let name = format!("/{}", record.name);
    let log = record.setup.log;
    let log_config = json!({
        "Type": log.driver.to_string(),
        "Config": {
            "max-size": log.rotation.size.to_string(),
            "max-file": log.rotation.files.to_string(),
        },
    });
    let binds: Vec<String> = grants.dirs.iter().map(ToString::to_string).collect();
    let tmpfs: Map<String, Value> = grants
        .scratch
        .iter()
        .map(|space| (space.guest.as_str().to_owned(), json!(format!("size={}", space.size.get()))))
        .collect();
    json!({
        "Id": record.id.as_str(),
        "Created": record.created.to_string(),
        "Path": path,
        "Args": args,
        "State": inspect_state(entry, &record),
        "Image": image_id(&record),
        "LogPath": entry.console.log_path().display().to_string(),
        "Name": name,
        "RestartCount": record.restarts,
        "Driver": "mote",
        "Platform": "wasi",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": security.apparmor.clone().unwrap_or_default(),
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "ExecIDs": if execs.is_empty() { Value::Null } else { json!(execs) },
        "HostConfig": {
            "Binds": binds,
            "Tmpfs": tmpfs,
            "LogConfig": log_config,
            "NetworkMode": network_mode(&record),
            "PortBindings": port_map(&record),
            "RestartPolicy": restart_policy(record.restart),
            "AutoRemove": record.setup.removal == mote_lifecycle::Removal::AtEnd,
            "ReadonlyRootfs": grants.root == Root::ReadOnly,
            "Memory": limits.memory.get(),
            "MemoryReservation": record.setup.requires.memory,
            "NanoCpus": limits.cpus.bound().map_or(0, |share| u64::from(share.millis()) * 1_000_000),
            "Privileged": false,
            "Isolation": security.isolation.to_string(),
            "CapAdd": null,
            "CapDrop": if dropped.is_empty() { Value::Null } else { json!(dropped) },
            "SecurityOpt": options(security),
            "StorageOpt": limits.storage.bound().map(|size| json!({ "size": size.get().to_string() })),
        },
        "GraphDriver": { "Name": "mote", "Data": null },
        "Mounts": mounts(&record),
        "Config": {
            "Hostname": record.id.short(),
            "Domainname": "",
            "User": security.user.map(|user| user.to_string()).unwrap_or_default(),
            "AttachStdin": record.setup.stdin != Stdin::Closed,
            "AttachStdout": true,
            "AttachStderr": true,
            "Tty": record.setup.terminal == Talks::Terminal,
            "OpenStdin": record.setup.stdin != Stdin::Closed,
            "StdinOnce": record.setup.stdin == Stdin::Once,
            "Env": env,
            "Cmd": record.args,
            "Entrypoint": null,
            "Image": record.image.name,
            "Volumes": null,
            "WorkingDir": record.cwd.clone().unwrap_or_default(),
            "Labels": record.setup.labels,
            "StopTimeout": record.setup.stop.timeout,
            "Healthcheck": record.setup.health.as_ref().map(health_check),
        },
        "NetworkSettings": {
            "Ports": port_map(&record),
            "Networks": {},
            "IPAddress": "",
        },
        "Mote": {
            "Program": record.image.digest.to_string(),
            "Policy": record.policy,
            "Limits": {
                "Memory": limits.memory.to_string(),
                "Cpus": limit(limits.cpus),
                "Fuel": limit(limits.fuel),
                "Timeout": limit(limits.timeout),
                "Storage": limit(limits.storage),
                "NetRate": limit(limits.net_rate),
            },
            "Requires": record.setup.requires,
            "Call": record.setup.call,
            "Reason": record.ending().map(|how| how.to_string()),
            "Detail": record.detail,
            "Wanted": record.wanted,
        },
    })
}

fn inspect_state(entry: &Entry, record: &Record) -> Value {
    let how = record.ending();
    let live = record.status().is_live();
    let waits = entry.container.waits_to_restart();
    let failed_to_start = how == Some(ExitStatus::NotStarted);
    let mut state = json!({
        "Status": state(record, waits),
        "Running": live,
        "Paused": record.status() == Status::Paused,
        "Restarting": waits,
        "OOMKilled": how == Some(ExitStatus::OutOfMemory),
        "Dead": false,
        "Pid": if live { std::process::id() } else { 0 },
        "ExitCode": how.map_or(0, ExitStatus::code),
        "Error": if failed_to_start { record.detail.clone().unwrap_or_default() } else { String::new() },
        "StartedAt": time(record.started),
        "FinishedAt": time(record.finished),
    });
    if let Some(status) = record.health {
        let health = entry.health.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state["Health"] = health_state(status, &health);
    }
    state
}

fn health_state(status: mote_lifecycle::HealthStatus, health: &Health) -> Value {
    let log: Vec<Value> = health
        .log
        .iter()
        .map(|probed| {
            json!({
                "Start": probed.start.to_string(),
                "End": probed.end.to_string(),
                "ExitCode": probed.code,
                "Output": probed.output,
            })
        })
        .collect();
    json!({ "Status": status.to_string(), "FailingStreak": health.failing, "Log": log })
}

fn health_check(check: &mote_lifecycle::HealthCheck) -> Value {
    use mote_lifecycle::Probe;
    let test = match &check.probe {
        Probe::Exec(command) => [vec!["CMD".to_owned()], command.clone()].concat(),
        Probe::Http(url) => vec!["HTTP".to_owned(), url.clone()],
    };
    json!({
        "Test": test,
        "Interval": check.interval_ms * 1_000_000,
        "Timeout": check.timeout_ms * 1_000_000,
        "Retries": check.retries,
        "StartPeriod": check.start_period_ms * 1_000_000,
        "StartInterval": check.start_interval_ms * 1_000_000,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_shown_as_docker_shows_them() {
        let table = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (3_599, "59 minutes"),
            (3_600, "About an hour"),
            (172_800, "2 days"),
            (1_209_600, "2 weeks"),
            (31_536_000, "12 months"),
        ];
        for (seconds, expected) in table {
            assert_eq!(span(seconds), expected);
        }
    }
}
