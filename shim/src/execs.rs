//! What runs beside a container, by the ids that containerd gives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::ShimError;

/// The execs of a container.
pub(crate) struct Execs<T>(Mutex<BTreeMap<String, Arc<T>>>);

impl<T> Execs<T> {
    pub(crate) fn new() -> Execs<T> {
        Execs(Mutex::default())
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Arc<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn find(&self, id: &str) -> Result<Arc<T>, ShimError> {
        let found = self.all().get(id).cloned();
        found.ok_or_else(|| ShimError::NotFound(format!("exec {id}")))
    }

    /// Those of which it is so.
    pub(crate) fn started(&self, is_so: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        self.all().values().filter(|exec| is_so(exec)).cloned().collect()
    }

    /// What is told of each, where it is told.
    pub(crate) fn running<R>(&self, tell: impl Fn(&T) -> Option<R>) -> Vec<R> {
        self.all().values().filter_map(|exec| tell(exec)).collect()
    }

    /// Adds what `make` makes, if the id is not taken.
    pub(crate) fn add(
        &self,
        id: &str,
        make: impl FnOnce() -> Result<T, ShimError>,
    ) -> Result<(), ShimError> {
        let mut all = self.all();
        if all.contains_key(id) {
            return Err(ShimError::Exists(format!("exec {id}")));
        }
        all.insert(id.to_owned(), Arc::new(make()?));
        Ok(())
    }

    pub(crate) fn forget(&self, id: &str) {
        self.all().remove(id);
    }
}
