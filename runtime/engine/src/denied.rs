//! Remembers what a guest was refused, as the flags that would have allowed it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// How many are remembered: a person reads them.
const MOST: usize = 8;

/// What one guest was refused.
#[derive(Debug, Clone, Default)]
pub(crate) struct Denied(Arc<Mutex<BTreeSet<String>>>);

impl Denied {
    pub(crate) fn note(&self, flag: String) {
        let mut flags = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if flags.len() < MOST {
            flags.insert(flag);
        }
    }

    pub(crate) fn flags(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
