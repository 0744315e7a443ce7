//! The tasks of one pod, and what they share: the network namespace, the threads, containerd's ear.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use containerd_shim_protos::api;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use mote_engine::{Layers, Wall, Worker};
use mote_spec::Isolation;
use rustix::thread::LinkNameSpaceType;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::Notify;

use crate::bundle::{Bundle, Network};
use crate::error::ShimError;
use crate::host_network::HostNetwork;
use crate::metrics::Hierarchy;
use crate::native::{Native, Place};
use crate::paths::Paths;
use crate::pod_cgroup::Seat;
use crate::program::{self, Found, Node, Source};
use crate::publisher::Publisher;
use crate::rootfs::Rootfs;
use crate::settings::Settings;
use crate::task::Task;
use crate::wasm::{Apart, Wasm};

/// How many threads guests compute on, at most: a pod is small, and each thread has a stack.
const MOST_THREADS: usize = 4;

/// A pod.
pub(crate) struct Pod {
    pub(crate) publisher: Publisher,
    pub(crate) hierarchy: Hierarchy,
    /// That of the machine, for what is no container of the pod.
    pub(crate) network: HostNetwork,
    node: Node,
    tasks: Mutex<BTreeMap<String, Slot>>,
    guests: OnceLock<Runtime>,
    /// The cgroup of its process, if it is to be in any.
    seat: Option<Seat>,
    /// Told when the pod is over.
    pub(crate) over: Notify,
}

/// A container, also while it is being made: that may take as long as to compile its program.
enum Slot {
    /// Whoever made it has given up if it is `doomed`.
    Making {
        doomed: bool,
    },
    Made(Arc<Task>),
}

/// What a new container is made of.
pub(crate) struct Wanted<'a> {
    pub(crate) id: &'a str,
    pub(crate) bundle: &'a Path,
    pub(crate) root: &'a [api::Mount],
    pub(crate) paths: Paths,
    /// What containerd's configuration says of the runtime.
    pub(crate) options: Option<&'a Any>,
}

impl Pod {
    pub(crate) fn new(
        node: Node,
        publisher: Publisher,
        seat: Option<Seat>,
    ) -> Result<Pod, ShimError> {
        Ok(Pod {
            network: HostNetwork::here()?,
            publisher,
            hierarchy: Hierarchy::of_machine(),
            node,
            tasks: Mutex::default(),
            guests: OnceLock::new(),
            seat,
            over: Notify::new(),
        })
    }

    fn tasks(&self) -> MutexGuard<'_, BTreeMap<String, Slot>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn find(&self, id: &str) -> Result<Arc<Task>, ShimError> {
        match self.tasks().get_mut(id) {
            Some(Slot::Made(task)) => Ok(Arc::clone(task)),
            Some(Slot::Making { .. }) | None => Err(ShimError::NotFound(format!("container {id}"))),
        }
    }

    /// Gives up a container that is being made: containerd has forgotten it.
    pub(crate) fn doom(&self, id: &str) {
        if let Some(Slot::Making { doomed }) = self.tasks().get_mut(id) {
            *doomed = true;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tasks().is_empty()
    }

    pub(crate) fn forget(&self, id: &str) {
        self.tasks().remove(id);
    }

    /// Makes a container. Only the main thread may, since it enters the network namespace with it.
    pub(crate) async fn create(&self, wanted: Wanted<'_>) -> Result<Arc<Task>, ShimError> {
        let id = wanted.id;
        match self.tasks().entry(id.to_owned()) {
            Entry::Vacant(place) => drop(place.insert(Slot::Making { doomed: false })),
            Entry::Occupied(_) => return Err(ShimError::Exists(format!("container {id}"))),
        }
        let made = self.make(wanted).await.map(Arc::new);
        let doomed = {
            let mut tasks = self.tasks();
            let doomed = matches!(tasks.get(id), Some(Slot::Making { doomed: true }));
            match &made {
                Ok(task) if !doomed => {
                    drop(tasks.insert(id.to_owned(), Slot::Made(Arc::clone(task))))
                }
                Ok(_) | Err(_) => drop(tasks.remove(id)),
            }
            doomed
        };
        match made {
            Ok(task) if doomed => {
                task.remove().await?;
                Err(ShimError::Precondition(format!("{id} was deleted while it was made")))
            }
            made => made,
        }
    }

    async fn make(&self, wanted: Wanted<'_>) -> Result<Task, ShimError> {
        let Wanted { id, bundle, root, paths, options } = wanted;
        let settings = Settings::read(&self.node.config, options)?;
        let mut bundle = Bundle::read(bundle)?;
        let rootfs = Rootfs::mount(&bundle.root, root)?;
        // What was mounted is not left behind by a container that is not to be.
        let made = async {
            match program::find(&self.node, id, &mut bundle, &rootfs).await? {
                Found::Wasm(source) => {
                    self.wasm(id, (bundle, rootfs.clone()), (source, settings), paths).await
                }
                Found::Native => self.native(id, (&bundle, &settings), rootfs.clone(), paths).await,
            }
        };
        made.await.inspect_err(|_| rootfs.unmount())
    }

    async fn wasm(
        &self,
        id: &str,
        (bundle, mut rootfs): (Bundle, Rootfs),
        (source, settings): (Source, Settings),
        paths: Paths,
    ) -> Result<Task, ShimError> {
        let (guests, network) = self.way_to(&bundle.network)?;
        rootfs.mount_volumes(&bundle)?;
        let policy = bundle.policy(rootfs.dirs(), &settings.ceiling)?;
        let loading = {
            let (node, policy, settings) = (self.node.clone(), policy.clone(), settings.clone());
            guests.spawn_blocking(move || node.load(&source, &policy, &settings))
        };
        let program = loading.await.map_err(|error| ShimError::Invalid(error.to_string()))??;
        // What the guest uses is the pod's from its first page on.
        if let Some(seat) = &self.seat {
            seat.taken().await;
        }
        // The pod's annotations are for all of its containers, also for those that could not use them.
        let policy = if program.module.has_sockets() { policy } else { policy.without_network() };
        let isolation = policy.security().isolation;
        let layers = match isolation {
            Isolation::Strict => Layers::All,
            Isolation::Shared | Isolation::Process => Layers::Available,
        };
        let apart = Apart { network, wall: Wall { layers, ..bundle.wall.clone() }, isolation };
        let worker = match apart.is_needed() {
            true => Some(Worker::spawn(&self.node.work_in, &apart.network).await?),
            false => None,
        };
        let task = Wasm::new(
            id,
            (bundle, rootfs),
            (program, policy),
            paths,
            (self.node.clone(), settings, guests),
            (apart, worker),
        )?;
        Ok(task.into())
    }

    async fn native(
        &self,
        id: &str,
        (bundle, settings): (&Bundle, &Settings),
        rootfs: Rootfs,
        paths: Paths,
    ) -> Result<Task, ShimError> {
        // Guests that come later are where the pod's first container is; one that has a network of
        // its own is alone in it.
        if let Network::Join(_) = bundle.network {
            self.enter(&bundle.network)?;
        }
        let place = Place {
            runtime: &settings.oci_runtime,
            state: &self.node.runc_state,
            sockets: &self.node.state,
            cgroups: bundle.cgroups,
        };
        let native = Native::create(id, &bundle.path, rootfs, paths, place).await?;
        Ok(native.into())
    }

    /// Enters the network namespace of the pod, if this is its first container, and tells how a process of
    /// its own gets to the container's.
    fn way_to(&self, wanted: &Network) -> Result<(Handle, mote_engine::Network), ShimError> {
        if self.guests.get().is_none() {
            return Ok((self.enter(wanted)?, mote_engine::Network::Inherited));
        }
        let guests = self.enter(wanted)?;
        let path = match wanted {
            Network::Fresh => return Ok((guests, mote_engine::Network::Fresh)),
            Network::Join(path) => path.clone(),
            Network::Host => self.network.path(),
        };
        let file = |path: &Path| {
            let found = rustix::fs::stat(path).map(|found| (found.st_dev, found.st_ino));
            found.map_err(|error| ShimError::File { path: path.to_owned(), source: error.into() })
        };
        let is_ours = file(&path)? == file(Path::new("/proc/thread-self/ns/net"))?;
        let way = match is_ours {
            true => mote_engine::Network::Inherited,
            false => mote_engine::Network::Join(path),
        };
        Ok((guests, way))
    }

    /// Enters the network namespace of the first container, in which all of a pod are, and makes the
    /// threads that are in it as well.
    fn enter(&self, wanted: &Network) -> Result<Handle, ShimError> {
        let failed = |what, source: std::io::Error| ShimError::System { what, source };
        if let Some(guests) = self.guests.get() {
            return Ok(guests.handle().clone());
        }
        match wanted {
            Network::Host => {}
            Network::Fresh => mote_engine::enter_fresh_network()
                .map_err(|error| failed("make a network namespace", error))?,
            Network::Join(path) => {
                let file = std::fs::File::open(path)
                    .map_err(|source| ShimError::File { path: path.clone(), source })?;
                let kind = Some(LinkNameSpaceType::Network);
                rustix::thread::move_into_link_name_space(file.as_fd(), kind)
                    .map_err(|error| failed("enter the network namespace", error.into()))?;
            }
        }
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(cpus.min(MOST_THREADS)).thread_name("mote-guest").enable_all();
        let runtime = mote_engine::look_often(&mut runtime)
            .build()
            .map_err(|error| failed("start threads", error))?;
        Ok(self.guests.get_or_init(|| runtime).handle().clone())
    }

    /// Lets the threads go, without waiting for what holds them up, and leaves the pod's cgroup.
    pub(crate) fn end(&mut self) {
        if let Some(seat) = &self.seat {
            seat.leave();
        }
        if let Some(guests) = self.guests.take() {
            guests.shutdown_background();
        }
    }
}
