//! What the daemon says about itself and its machine.

use std::collections::HashMap;

use hyper::Method;
use hyper::header::{CACHE_CONTROL, HeaderValue};
use mote_engine::ENGINE_VERSION;
use mote_lifecycle::{Resource, Time};
use mote_spec::Limits;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{self, Reply};
use super::{Call, OLDEST_VERSION};
use crate::daemon::Daemon;
use crate::error::DaemonError;
use crate::scratch;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `GET` and `HEAD /_ping`
pub(crate) fn ping(method: &Method) -> Reply {
    let text = if *method == Method::HEAD { "" } else { "OK" };
    let mut reply = answer::text(text.to_owned());
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(reply)
}

/// `GET /version`
pub(crate) fn version() -> Reply {
    let kernel = rustix::system::uname();
    let details = json!({
        "ApiVersion": super::API_VERSION,
        "MinAPIVersion": OLDEST_VERSION,
        "Os": std::env::consts::OS,
        "Arch": architecture(),
        "KernelVersion": kernel.release().to_string_lossy(),
        "Experimental": "false",
    });
    Ok(answer::json(&json!({
        "Platform": { "Name": "mote" },
        "Components": [
            { "Name": "Engine", "Version": VERSION, "Details": details },
            { "Name": "wasmtime", "Version": ENGINE_VERSION },
        ],
        "Version": VERSION,
        "ApiVersion": super::API_VERSION,
        "MinAPIVersion": OLDEST_VERSION,
        "Os": std::env::consts::OS,
        "Arch": architecture(),
        "KernelVersion": kernel.release().to_string_lossy(),
        "GitCommit": "",
        "GoVersion": "",
        "BuildTime": "",
    })))
}

/// The architecture in Go's words, which docker's clients compare.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// `GET /info`
pub(crate) fn info(call: &Call) -> Reply {
    let daemon = &call.daemon;
    let (counts, kernel) = (daemon.counts(), rustix::system::uname());
    let images = super::images::by_manifest(&daemon.machine.store()?)?.len();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let host = kernel.nodename().to_string_lossy().into_owned();
    let own = json!({
        "Engine": format!("wasmtime {ENGINE_VERSION}"),
        "Started": daemon.started.to_string(),
        "Resources": resources(daemon),
        "Defaults": limits(&daemon.machine.ceiling.defaults),
        "Ceiling": limits(&daemon.machine.ceiling.most),
    });
    let mut info = fixed();
    let more = json!({
        "ID": host,
        "Name": host,
        "Mote": own,
        "Containers": counts.all,
        "ContainersRunning": counts.running,
        "ContainersPaused": counts.paused,
        "ContainersStopped": counts.all - counts.running - counts.paused,
        "Images": images,
        "DriverStatus": [["Engine profile", daemon.machine.profile.to_string()]],
        "SystemTime": Time::now().to_string(),
        "KernelVersion": kernel.release().to_string_lossy(),
        "Architecture": kernel.machine().to_string_lossy(),
        "NCPU": cpus,
        "MemTotal": mote_engine::machine_memory().get(),
        "DockerRootDir": daemon.machine.root.display().to_string(),
    });
    if let (Value::Object(info), Value::Object(more)) = (&mut info, more) {
        info.extend(more);
    }
    Ok(answer::json(&info))
}

/// What is the same for every daemon.
fn fixed() -> Value {
    json!({
        "Driver": "mote",
        "Plugins": {
            "Volume": ["local"],
            "Network": ["none", "host"],
            "Log": ["json-file", "journald", "none"],
        },
        "MemoryLimit": true,
        "SwapLimit": false,
        "CpuCfsPeriod": true,
        "CpuCfsQuota": true,
        "IPv4Forwarding": true,
        "OomKillDisable": false,
        "LoggingDriver": "json-file",
        "CgroupDriver": "none",
        "OperatingSystem": "mote (WebAssembly)",
        "OSType": std::env::consts::OS,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "InsecureRegistryCIDRs": ["127.0.0.0/8"],
            "IndexConfigs": {},
            "Mirrors": [],
        },
        "ServerVersion": VERSION,
        "Runtimes": { "mote": { "path": "mote" } },
        "DefaultRuntime": "mote",
        "Swarm": { "LocalNodeState": "inactive" },
        "LiveRestoreEnabled": false,
        "Isolation": "",
        "SecurityOptions": ["name=seccomp,profile=builtin", "name=no-new-privileges"],
        "Warnings": [],
    })
}

/// What the machine has to give, and what of it is free.
fn resources(daemon: &Daemon) -> Value {
    let pair = |resource, total| json!({ "Total": total, "Free": daemon.free(resource) });
    let total = daemon.total;
    json!({
        "Memory": pair(Resource::Memory, total.memory),
        "CpuMillis": pair(Resource::Cpu, total.cpu),
        "Storage": pair(Resource::Storage, total.storage),
        "NetworkPerSecond": pair(Resource::Network, total.network),
    })
}

fn limits(limits: &Limits) -> Value {
    json!({
        "Memory": limits.memory.to_string(),
        "Cpus": limits.cpus.to_string(),
        "Fuel": limits.fuel.to_string(),
        "Timeout": limits.timeout.to_string(),
        "Storage": limits.storage.to_string(),
        "NetRate": limits.net_rate.to_string(),
    })
}

/// `GET /system/df`
pub(crate) async fn disk_usage(call: &Call) -> Reply {
    let daemon = std::sync::Arc::clone(&call.daemon);
    let measured = tokio::task::spawn_blocking(move || measure(&daemon)).await;
    measured.unwrap_or_else(|_| Err(DaemonError::Failed("measuring failed".to_owned())))
}

/// Blocks.
fn measure(daemon: &Daemon) -> Reply {
    let store = daemon.machine.store()?;
    let (blobs, trees) = store.usage()?;
    let entries = daemon.list();
    let mut users: HashMap<String, i64> = HashMap::new();
    for entry in &entries {
        let record = entry.record();
        if let Some(manifest) = &record.image.manifest {
            *users.entry(manifest.to_string()).or_default() += 1;
        }
    }
    let images: Vec<Value> = super::images::by_manifest(&store)?
        .iter()
        .map(|(image, same)| {
            let mut summary = super::images::summary(&store, image, same);
            let count = users.get(&image.manifest.digest.to_string()).copied().unwrap_or(0);
            summary["Containers"] = json!(count);
            summary["SharedSize"] = json!(0);
            summary
        })
        .collect();
    let now = Time::now();
    let containers: Vec<Value> = entries
        .iter()
        .map(|entry| {
            let mut summary = super::view::summary(entry, now);
            summary["SizeRw"] = json!(0);
            summary["SizeRootFs"] = json!(0);
            summary
        })
        .collect();
    let volumes: Vec<Value> = daemon
        .volumes
        .list()
        .iter()
        .map(|volume| {
            let mut shown = super::volumes::shown(volume);
            let used = daemon.users_of(volume).len();
            shown["UsageData"] =
                json!({ "Size": mote_image::bytes_below(&volume.data), "RefCount": used });
            shown
        })
        .collect();
    let compiled = daemon.machine.cache().map_or(0, |cache| cache.usage());
    Ok(answer::json(&json!({
        "LayersSize": blobs,
        "Images": images,
        "Containers": containers,
        "Volumes": volumes,
        "BuildCache": [],
        "BuilderSize": 0,
        "Mote": {
            "UnpackedFiles": trees,
            "CompiledPrograms": compiled,
            "ScratchSpace": scratch::bytes(&daemon.machine.root),
        },
    })))
}

/// Who logs in.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Login {
    username: String,
    password: String,
    serveraddress: String,
}

/// `POST /auth`: tries a credential out; the client keeps it.
pub(crate) async fn auth(call: Call) -> Reply {
    use mote_registry::{Client, Credential};
    let mut settings = call.daemon.registries.clone();
    let Login { username, password, serveraddress } = call.json()?;
    settings.credentials.explicit = Some(Credential::Password { user: username, password });
    let failed = |error: &dyn std::error::Error| DaemonError::Failed(crate::report::causes(error));
    let client = Client::new(settings).map_err(|error| failed(&error))?;
    let host = serveraddress.trim_start_matches("https://").trim_start_matches("http://");
    let host = host.split('/').next().unwrap_or(host);
    client.check_login(host).await.map_err(|error| failed(&error))?;
    Ok(answer::json(&json!({ "Status": "Login Succeeded", "IdentityToken": "" })))
}

/// The networks that there are: what a guest may reach is said by rules, and none are made.
pub(crate) fn networks(method: &Method, path: &[&str]) -> Reply {
    let network = |name: &str| {
        json!({
            "Name": name, "Id": name, "Scope": "local", "Driver": name, "EnableIPv6": false,
            "IPAM": { "Driver": "default", "Config": [] }, "Internal": false, "Attachable": false,
            "Ingress": false, "Containers": {}, "Options": {}, "Labels": {},
            "Created": "0001-01-01T00:00:00Z",
        })
    };
    match (method, path) {
        (&Method::GET, []) => Ok(answer::json(&[network("none"), network("host")])),
        (&Method::GET, [name @ ("none" | "host")]) => Ok(answer::json(&network(name))),
        (&Method::GET, [name]) => {
            Err(DaemonError::Nothing { what: "network", name: (*name).to_owned() })
        }
        (&Method::POST, ["prune"]) => Ok(answer::json(&json!({ "NetworksDeleted": null }))),
        _ => Err(super::unsupported(
            "mote has no bridges: what a guest may reach is said by rules. Use `network_mode: none` (or host), and allow connections with the label io.mote.allow-net",
        )),
    }
}
