//! Serves the tasks of a pod at a socket that its parent has made, until containerd shuts it down.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use containerd_shim_protos::ttrpc::r#async::Server;
use containerd_shim_protos::ttrpc::r#async::transport::Listener;

use crate::bundle::Bundle;
use crate::error::ShimError;
use crate::flags::Flags;
use crate::metrics::Hierarchy;
use crate::orphans;
use crate::pod::Pod;
use crate::pod_cgroup::Seat;
use crate::program::Node;
use crate::publisher::Publisher;
use crate::rootfs;
use crate::service::{self, Service};

/// Serves at the socket that is standard input. `events` is containerd's ttrpc address.
pub(crate) fn serve(flags: &Flags, node: Node, events: &str) -> Result<(), ShimError> {
    let failed = |what| move |source: std::io::Error| ShimError::System { what, source };
    let listener = std::io::stdin().as_fd().try_clone_to_owned();
    let listener: OwnedFd = listener.map_err(failed("take over the socket"))?;
    let listener = UnixListener::from(listener);
    // Before any other thread is made.
    rootfs::own_namespace()?;
    // What the OCI runtime has made becomes its child.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| failed("take over processes")(error.into()))?;
    raise_file_limit();
    let seat = seat(flags);
    // The bundle, where it began, goes with the first container.
    std::env::set_current_dir("/").map_err(failed("change to /"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(failed("start the event loop"))?;
    let served = runtime.block_on(run(flags, node, (events, seat), listener));
    // What a guest's file operation holds up must not hold the end up.
    runtime.shutdown_background();
    served
}

/// Begins to enter the pod's cgroup, as the bundle of its first container names it.
fn seat(flags: &Flags) -> Option<Seat> {
    let bundle = std::env::current_dir().ok()?;
    let hierarchy = Hierarchy::of_machine();
    // A bundle that cannot be read is told of when its container is made.
    let cgroup = Bundle::read(&bundle).ok()?.pod_cgroup(hierarchy, &flags.id)?;
    Some(Seat::take(cgroup, hierarchy))
}

/// A guest that serves has many connections, which must not keep containerd's out.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // What may not be raised stays as it is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

async fn run(
    flags: &Flags,
    node: Node,
    (events, seat): (&str, Option<Seat>),
    listener: UnixListener,
) -> Result<(), ShimError> {
    let address = listener.local_addr().ok();
    let system = |source| ShimError::System { what: "listen at the socket", source };
    listener.set_nonblocking(true).map_err(system)?;
    let listener = tokio::net::UnixListener::from_std(listener).map_err(system)?;
    let (publisher, publishing) = Publisher::new(&flags.namespace, events);
    let pod = Arc::new(Pod::new(node, publisher, seat)?);
    let listener = Listener::from(listener);
    let services = service::services(&Service(Arc::clone(&pod)));
    let mut server = Server::new().add_listener(listener).register_service(services);
    let failed = |error| ShimError::Invalid(format!("cannot serve: {error}"));
    server.start().await.map_err(failed)?;
    orphans::watch();
    tracing::info!(id = flags.id, "serving");
    pod.over.notified().await;
    tracing::info!("the pod is over");
    // No new containerd is to find it.
    if let Some(path) = address.as_ref().and_then(|address| address.as_pathname()) {
        let _ = std::fs::remove_file(path);
    }
    // Answers the request that ended it, and lets go of the pod.
    let _ = server.shutdown().await;
    drop(server);
    if let Ok(mut pod) = Arc::try_unwrap(pod) {
        pod.end();
    }
    // What happened last is still told.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), publishing).await;
    Ok(())
}
