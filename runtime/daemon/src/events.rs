//! Tells whoever listens what happened, and remembers the last of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use mote_lifecycle::Time;
use tokio::sync::broadcast;

/// How many events are remembered, and how many a listener may be behind.
const REMEMBERED: usize = 1024;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) kind: Kind,
    /// In docker's words: `create`, `start`, `die`, …
    pub(crate) action: String,
    /// What it happened to: a container's id, an image's name.
    pub(crate) id: String,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) time: Time,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Container,
    Image,
    Volume,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Container => "container",
            Kind::Image => "image",
            Kind::Volume => "volume",
        }
    }
}

/// The events of a daemon.
pub(crate) struct Events {
    sender: broadcast::Sender<Arc<Event>>,
    recent: Mutex<VecDeque<Arc<Event>>>,
}

impl Events {
    pub(crate) fn new() -> Events {
        let (sender, _) = broadcast::channel(REMEMBERED);
        Events { sender, recent: Mutex::default() }
    }

    /// Tells of something that happened just now.
    pub(crate) fn tell(
        &self,
        kind: Kind,
        action: &str,
        id: &str,
        attributes: BTreeMap<String, String>,
    ) {
        let (action, id, time) = (action.to_owned(), id.to_owned(), Time::now());
        let event = Arc::new(Event { kind, action, id, attributes, time });
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == REMEMBERED {
            recent.pop_front();
        }
        recent.push_back(Arc::clone(&event));
        // Under the lock, so that nobody hears it twice or not at all; nobody may be listening.
        let _ = self.sender.send(event);
    }

    /// What is remembered since a moment, and what comes from now on.
    pub(crate) fn listen(
        &self,
        since: Option<Time>,
    ) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let past = match since {
            Some(since) => recent.iter().filter(|event| event.time >= since).cloned().collect(),
            None => Vec::new(),
        };
        (past, self.sender.subscribe())
    }
}
