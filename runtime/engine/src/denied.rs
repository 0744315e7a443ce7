//! Remembers what a guest was refused, and with which flag it would have been allowed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// How many are remembered: a person reads them.
const MOST: usize = 8;

/// Something that a guest was refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Refusal {
    /// What it wanted, such as "to connect to 10.0.0.1:80".
    pub what: String,
    /// What would have allowed it.
    pub flag: String,
}

/// What one guest was refused.
#[derive(Debug, Clone, Default)]
pub(crate) struct Denied(Arc<Mutex<BTreeSet<Refusal>>>);

impl Denied {
    pub(crate) fn note(&self, what: String, flag: String) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < MOST {
            all.insert(Refusal { what, flag });
        }
    }

    pub(crate) fn all(&self) -> Vec<Refusal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// A guest's text as it may be printed to a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().take(100).filter(|c| c.is_ascii_graphic()).collect()
}
