//! `start`: makes the socket of a pod, starts the process that serves it, and tells containerd where it is.
//!
//! containerd up to 2.2 reads a plain address, which stands for version 2 of the Task service; from 2.3 on
//! it says in protobuf who is started, and reads its answer so (containerd's `core/runtime/v2/README.md`).

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use containerd_shim_protos::protobuf::Message;

use crate::bundle;
use crate::error::ShimError;
use crate::flags::Flags;

/// Where sockets are, if containerd does not say.
const SOCKETS: &str = "/run/containerd/s";
/// The Task service that a containerd is answered for that speaks protobuf.
const VERSION: i32 = 3;

/// Starts, or finds, the process of the pod, and returns what containerd is to read.
pub(crate) fn start(flags: &Flags, bundle: &Path, said: &[u8]) -> Result<Vec<u8>, ShimError> {
    let params = params(flags, said);
    let group = bundle::group(bundle)?.unwrap_or_else(|| flags.id.clone());
    let folder = params.as_ref().and_then(|params| params.socket_dir.as_deref());
    let path = socket_path(folder.filter(|folder| !folder.is_empty()), flags, &group);
    let file = |source| ShimError::File { path: path.clone(), source };
    let address = format!("unix://{}", path.display());
    // Where a containerd that is started anew looks for it; before there is anything to be found.
    let kept = bundle.join("address");
    std::fs::write(&kept, &address).map_err(|source| ShimError::File { path: kept, source })?;
    if let Some(listener) = bind(&path).map_err(file)? {
        serve(flags, listener)?;
    }
    reply(&address, params.is_some())
}

/// What a containerd says that speaks protobuf. Options in their older form can be read as such, too,
/// but do not name the container.
fn params(flags: &Flags, said: &[u8]) -> Option<BootstrapParams> {
    let params = BootstrapParams::parse_from_bytes(said).ok()?;
    let names_us = params.instance_id == flags.id && params.namespace == flags.namespace;
    names_us.then_some(params)
}

fn reply(address: &str, in_protobuf: bool) -> Result<Vec<u8>, ShimError> {
    if !in_protobuf {
        return Ok(address.as_bytes().to_vec());
    }
    let result = BootstrapResult {
        version: VERSION,
        address: address.to_owned(),
        protocol: "ttrpc".to_owned(),
        ..BootstrapResult::default()
    };
    let failed = |source| ShimError::Message { what: "the answer", source };
    result.write_to_bytes().map_err(failed)
}

/// A path that is short enough for a socket, and another for every pod.
fn socket_path(folder: Option<&str>, flags: &Flags, group: &str) -> PathBuf {
    let name = format!("{}/{}/{group}", flags.address, flags.namespace);
    Path::new(folder.unwrap_or(SOCKETS)).join(mote_image::sha256(name.as_bytes()).hex())
}

/// Makes the socket, if nobody serves there.
fn bind(path: &Path) -> io::Result<Option<UnixListener>> {
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o711).create(folder)?;
    }
    let bind = || -> io::Result<UnixListener> {
        let listener = UnixListener::bind(path)?;
        // Whoever reaches it has the pod.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    match bind() {
        Ok(listener) => return Ok(Some(listener)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
        Err(error) => return Err(error),
    }
    if UnixStream::connect(path).is_ok() {
        return Ok(None);
    }
    // Whoever served there is gone.
    std::fs::remove_file(path)?;
    bind().map(Some)
}

/// Starts the process that serves; the socket is its standard input.
fn serve(flags: &Flags, listener: UnixListener) -> Result<(), ShimError> {
    let failed = |source| ShimError::System { what: "start the process of the pod", source };
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    command.args(["-namespace", &flags.namespace, "-id", &flags.id, "-address", &flags.address]);
    if flags.debug {
        command.arg("-debug");
    }
    // containerd reads until nobody has its pipes any more; signals of its group are not for us.
    command.stdin(OwnedFd::from(listener)).stdout(Stdio::null()).stderr(Stdio::null());
    command.process_group(0);
    let child = command.spawn().map_err(failed)?;
    spare_after_containerd(child.id());
    Ok(())
}

/// Lets the kernel end containerd after its shims when memory runs out, as containerd's own do: the
/// pod's process has its score and one more. Where that may not be said, nothing is lost.
fn spare_after_containerd(pid: u32) {
    let score = |pid: u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).ok()?;
        text.trim().parse::<i32>().ok()
    };
    let parent = std::os::unix::process::parent_id();
    if let Some(score) = score(parent) {
        let _ = std::fs::write(
            format!("/proc/{pid}/oom_score_adj"),
            score.saturating_add(1).min(1000).to_string(),
        );
    }
}

/// Opens containerd's pipe for a shim's log, which is in the bundle.
pub(crate) fn log(bundle: &Path) -> Option<File> {
    // For both ways, so that nobody waits for the other end.
    let flags = rustix::fs::OFlags::NONBLOCK.bits();
    // What nobody reads is lost, and holds nobody up.
    let flags = i32::try_from(flags).unwrap_or(0);
    File::options().read(true).write(true).custom_flags(flags).open(bundle.join("log")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> Flags {
        Flags { id: "web".into(), namespace: "k8s.io".into(), ..Flags::default() }
    }

    #[test]
    fn each_containerd_is_answered_as_it_asks() {
        let said = BootstrapParams {
            instance_id: "web".into(),
            namespace: "k8s.io".into(),
            ..BootstrapParams::default()
        };
        assert!(params(&flags(), &said.write_to_bytes().unwrap()).is_some());
        assert!(params(&flags(), b"").is_none(), "nothing was said");
        let other = BootstrapParams { instance_id: "other".into(), ..said };
        assert!(params(&flags(), &other.write_to_bytes().unwrap()).is_none());
        assert_eq!(reply("unix:///s", false).unwrap(), b"unix:///s");
        let result = BootstrapResult::parse_from_bytes(&reply("unix:///s", true).unwrap()).unwrap();
        assert_eq!((result.version, result.address.as_str()), (3, "unix:///s"));
    }

    #[test]
    fn a_socket_that_nobody_serves_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s/socket");
        let first = bind(&path).unwrap().expect("it is new");
        assert!(bind(&path).unwrap().is_none(), "somebody serves there");
        drop(first);
        assert!(bind(&path).unwrap().is_some());
    }

    #[test]
    fn containers_of_a_pod_share_a_socket_and_others_do_not() {
        let of = |group: &str| socket_path(None, &flags(), group);
        assert_eq!(of("pod"), of("pod"));
        assert_ne!(of("pod"), of("web"));
        assert!(of("pod").as_os_str().len() < 108, "a socket's address has no more room");
    }
}
