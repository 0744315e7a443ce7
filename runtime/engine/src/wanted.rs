//! Clients that wait for compiled code: a compilation ends when they are gone.

use std::sync::{Arc, Weak};

/// A client that waits for compiled code; drop it when the client goes.
#[derive(Debug)]
pub struct Waiting(Arc<()>);

/// Whether somebody waits for compiled code.
#[derive(Debug, Clone)]
pub struct Wanted(Option<Weak<()>>);

impl Waiting {
    /// A client that is there.
    #[expect(clippy::new_without_default, reason = "a default client means nothing")]
    pub fn new() -> Waiting {
        Waiting(Arc::new(()))
    }

    /// Tells for as long as the client waits.
    pub fn wanted(&self) -> Wanted {
        Wanted(Some(Arc::downgrade(&self.0)))
    }
}

impl Wanted {
    /// Code that is wanted whoever goes.
    pub const ALWAYS: Wanted = Wanted(None);

    /// Whether the client still waits.
    pub fn is_wanted(&self) -> bool {
        self.0.as_ref().is_none_or(|client| client.strong_count() > 0)
    }
}
