//! The tasks of one pod, and what they share: the network namespace, the threads, containerd's ear.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use containerd_shim_protos::api;
use mote_image::Code;
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::Notify;

use crate::bundle::{Bundle, Network};
use crate::error::ShimError;
use crate::metrics::Hierarchy;
use crate::native::Native;
use crate::program::{self, Found, Node};
use crate::publisher::Publisher;
use crate::rootfs::Rootfs;
use crate::streams::Paths;
use crate::task::Task;
use crate::wasm::Wasm;

/// How many threads guests compute on, at most: a pod is small, and each thread has a stack.
const MOST_THREADS: usize = 4;

/// A pod.
pub(crate) struct Pod {
    pub(crate) publisher: Publisher,
    pub(crate) hierarchy: Hierarchy,
    node: Node,
    tasks: Mutex<BTreeMap<String, Arc<Task>>>,
    guests: OnceLock<Runtime>,
    /// Told when the pod is over.
    pub(crate) over: Notify,
}

/// What a new container is made of.
pub(crate) struct Wanted<'a> {
    pub(crate) id: &'a str,
    pub(crate) bundle: &'a Path,
    pub(crate) root: &'a [api::Mount],
    pub(crate) paths: Paths,
}

impl Pod {
    pub(crate) fn new(node: Node, publisher: Publisher) -> Pod {
        Pod {
            publisher,
            hierarchy: Hierarchy::of_machine(),
            node,
            tasks: Mutex::default(),
            guests: OnceLock::new(),
            over: Notify::new(),
        }
    }

    fn tasks(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Task>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn find(&self, id: &str) -> Result<Arc<Task>, ShimError> {
        let found = self.tasks().get(id).cloned();
        found.ok_or_else(|| ShimError::NotFound(format!("container {id}")))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tasks().is_empty()
    }

    pub(crate) fn forget(&self, id: &str) {
        self.tasks().remove(id);
    }

    /// Makes a container. Only the main thread may, since it enters the network namespace with it.
    pub(crate) async fn create(&self, wanted: Wanted<'_>) -> Result<Arc<Task>, ShimError> {
        let Wanted { id, bundle, root, paths } = wanted;
        if self.tasks().contains_key(id) {
            return Err(ShimError::Exists(format!("container {id}")));
        }
        let bundle = Bundle::read(bundle)?;
        let rootfs = Rootfs::mount(&bundle.root, root)?;
        // What was mounted is not left behind by a container that is not to be.
        let made = async {
            match program::find(&bundle, &rootfs)? {
                Found::Wasm(code) => self.wasm(id, (bundle, rootfs.clone()), code, paths).await,
                Found::Native => self.native(id, &bundle, rootfs.clone(), paths).await,
            }
        };
        let task = made.await.map(Arc::new).inspect_err(|_| rootfs.unmount())?;
        self.tasks().insert(id.to_owned(), Arc::clone(&task));
        Ok(task)
    }

    async fn wasm(
        &self,
        id: &str,
        (bundle, mut rootfs): (Bundle, Rootfs),
        code: Code,
        paths: Paths,
    ) -> Result<Task, ShimError> {
        let guests = self.enter(&bundle.network)?;
        rootfs.mount_volumes(&bundle)?;
        let policy = bundle.policy(rootfs.dirs())?;
        let loading = {
            let (node, policy) = (self.node.clone(), policy.clone());
            guests.spawn_blocking(move || node.load(&code, &policy))
        };
        let program = loading.await.map_err(|error| ShimError::Invalid(error.to_string()))??;
        let task =
            Wasm::new(id, (bundle, rootfs), (program, policy), paths, (self.node.clone(), guests))?;
        Ok(Task::Wasm(Arc::new(task)))
    }

    async fn native(
        &self,
        id: &str,
        bundle: &Bundle,
        rootfs: Rootfs,
        paths: Paths,
    ) -> Result<Task, ShimError> {
        // Guests that come later are where the pod's first container is; one that has a network of
        // its own is alone in it.
        if let Network::Join(_) = bundle.network {
            self.enter(&bundle.network)?;
        }
        let native = Native::create(id, &bundle.path, rootfs, paths, &self.node.runc_state).await?;
        Ok(Task::Native(Arc::new(native)))
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
            Network::Fresh => {
                // SAFETY: no other thread has been made, and nothing that is open is the network's.
                unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
                    .map_err(|error| failed("make a network namespace", error.into()))?;
            }
            Network::Join(path) => {
                let file = std::fs::File::open(path)
                    .map_err(|source| ShimError::File { path: path.clone(), source })?;
                let kind = Some(LinkNameSpaceType::Network);
                rustix::thread::move_into_link_name_space(file.as_fd(), kind)
                    .map_err(|error| failed("enter the network namespace", error.into()))?;
            }
        }
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(cpus.min(MOST_THREADS))
            .thread_name("mote-guest")
            .enable_all()
            .build()
            .map_err(|error| failed("start threads", error))?;
        Ok(self.guests.get_or_init(|| runtime).handle().clone())
    }

    /// Lets the threads go, without waiting for what holds them up.
    pub(crate) fn end(&mut self) {
        if let Some(guests) = self.guests.take() {
            guests.shutdown_background();
        }
    }
}
