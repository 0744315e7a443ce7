//! What a new container is asked to be, and how that becomes a record: the image asks, the operator
//! grants, the machine caps.

use std::collections::BTreeMap;

use mote_engine::Call;
use mote_image::{Artifact, Overrides};
use mote_lifecycle::{Files, Image, Made, Record, Resources, RestartPolicy, Setup, Time};
use mote_spec::{Asks, Bytes, Ceiling, ContainerId, ContainerName, Request, Volumes, decide};

use crate::error::DaemonError;
use crate::machine::Machine;

/// A container that somebody wants.
pub(crate) struct Wanted {
    pub(crate) name: Option<ContainerName>,
    /// The image, as it was typed.
    pub(crate) image: String,
    pub(crate) overrides: Overrides,
    /// Environment variables beside the image's; one without a value takes the image's away.
    pub(crate) env: Vec<(String, Option<String>)>,
    pub(crate) cwd: Option<String>,
    /// A function to call instead of the main program.
    pub(crate) invoke: Option<String>,
    pub(crate) request: Request,
    /// Memory that the host has to have for it, where that is not its limit.
    pub(crate) reservation: Option<Bytes>,
    pub(crate) restart: RestartPolicy,
    pub(crate) setup: Setup,
}

/// Decides what a container may do, and writes its first record.
pub(crate) fn record(
    wanted: Wanted,
    artifact: &Artifact,
    manifest: mote_spec::Digest,
    machine: &Machine,
) -> Result<Record, DaemonError> {
    let asks = Asks::from_annotations(&artifact.annotations)?;
    let requires = requires(&wanted, &asks);
    let Wanted {
        name,
        image,
        overrides: _,
        env,
        cwd,
        invoke,
        request,
        reservation,
        restart,
        mut setup,
    } = wanted;
    let policy = decide(request, &asks, &ceiling(machine))?;
    let limit = policy.limits().memory;
    if let Some(reserved) = reservation.filter(|reserved| *reserved > limit) {
        return Err(DaemonError::BadRequest(format!(
            "the memory reservation of {reserved} is above the memory limit of {limit}"
        )));
    }
    setup.call = call(invoke, artifact);
    setup.requires = requires.at_most(Resources::of(policy.limits()));
    // A working folder of an image without files leads nowhere.
    let own = artifact.cwd.clone().filter(|_| artifact.rootfs.is_some());
    let cwd = cwd.or(own);
    let id = ContainerId::new(random()?);
    let name = match name {
        Some(name) => name,
        None => id.short().parse().expect("the start of an id is a name"),
    };
    let made = Made {
        id,
        name,
        image: Image {
            name: image,
            digest: artifact.code.digest().clone(),
            manifest: Some(manifest),
            files: artifact
                .rootfs
                .as_ref()
                .map(|root| Files { tree: root.tree.clone(), program: root.program.clone() }),
        },
        args: artifact.args.clone(),
        env: environment(artifact, env, cwd.as_deref()),
        cwd,
        policy,
        restart,
        setup,
    };
    Ok(Record::new(made, Time::now()))
}

/// The machine's ceiling, under which named volumes are, wherever else volumes may come from.
fn ceiling(machine: &Machine) -> Ceiling {
    let mut ceiling = machine.ceiling.clone();
    if let Volumes::Below(folders) = &mut ceiling.volumes {
        folders.extend(machine.root.join("volumes").canonicalize());
    }
    ceiling
}

/// What somebody named: a limit that nobody asked for is a bound, and no requirement.
fn requires(wanted: &Wanted, asks: &Asks) -> Resources {
    let said = wanted.request.limits.or(asks.limits);
    Resources {
        memory: wanted.reservation.or(said.memory).map_or(0, Bytes::get),
        cpu: said.cpus.map_or(0, |share| u64::from(share.millis())),
        storage: said.storage.map_or(0, Bytes::get),
        network: said.net_rate.map_or(0, mote_spec::Rate::per_second),
    }
}

fn call(invoke: Option<String>, artifact: &Artifact) -> Call {
    match (invoke, &artifact.export) {
        (Some(call), _) if call.contains('(') => Call::Invoke(call),
        // As wasmtime has it: the function alone, and its arguments behind the program.
        (Some(name), _) => Call::Invoke(format!(
            "{name}({})",
            artifact.args.get(1..).unwrap_or_default().join(",")
        )),
        (None, Some(export)) if export != "_start" => Call::Export(export.clone()),
        (None, _) => Call::Main,
    }
}

/// The image's variables, and the operator's over them.
fn environment(
    artifact: &Artifact,
    more: Vec<(String, Option<String>)>,
    cwd: Option<&str>,
) -> Vec<(String, String)> {
    let own = artifact.env.iter().filter_map(|pair| pair.split_once('='));
    let mut env: BTreeMap<String, String> =
        own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    for (name, value) in more {
        match value {
            Some(value) => drop(env.insert(name, value)),
            None => drop(env.remove(&name)),
        }
    }
    if let Some(cwd) = cwd {
        // Preview 1 has no working directory; libraries of Go and others look here.
        env.entry("PWD".to_owned()).or_insert_with(|| cwd.to_owned());
    }
    env.into_iter().collect()
}

/// Bytes for an id that nobody else has.
pub(crate) fn random() -> Result<[u8; 32], DaemonError> {
    let mut random = [0; 32];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| DaemonError::Failed(format!("cannot draw a random id: {error}")))?;
    Ok(random)
}
