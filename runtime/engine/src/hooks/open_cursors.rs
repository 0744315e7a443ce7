//! Cursors of directories that a preview 1 guest is in the middle of reading.

use std::collections::HashMap;

use super::listing::{MOST_LISTS, Names};

/// Cursors of the directories that a guest reads, by descriptor. Some of the descriptors may have been closed.
#[derive(Default)]
pub(crate) struct OpenCursors {
    lists: HashMap<u32, Cursor>,
    /// How many there have been.
    number: u64,
}

struct Cursor {
    names: Names,
    /// How many names came before.
    given: u64,
    number: u64,
}

impl OpenCursors {
    /// Forgets a descriptor's list: it is another's now.
    pub(super) fn forget(&mut self, fd: u32) {
        self.lists.remove(&fd);
    }

    /// The list that a descriptor is in the middle of, if it got as far as that.
    pub(super) fn take(&mut self, fd: u32, given: u64) -> Option<Names> {
        self.lists.remove(&fd).filter(|cursor| cursor.given == given).map(|cursor| cursor.names)
    }

    pub(super) fn keep(&mut self, fd: u32, names: Names, given: u64) {
        self.number += 1;
        self.lists.insert(fd, Cursor { names, given, number: self.number });
    }

    /// Gives up the oldest where there is no room for one more.
    pub(super) fn make_room(&mut self) {
        if self.lists.len() >= MOST_LISTS {
            let oldest = self.lists.iter().min_by_key(|(_, cursor)| cursor.number);
            if let Some(fd) = oldest.map(|(fd, _)| *fd) {
                self.forget(fd);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::listing::{Depth, Lists};
    use super::*;
    use crate::launch::Blocking;

    #[test]
    fn a_list_goes_on_only_where_it_was() {
        let events = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let names = || {
            let dir = std::fs::File::open(folder.path()).unwrap();
            let leave = Lists::new().one_more().unwrap();
            let names = Names::of(dir, Depth::Kind, leave, Blocking::Allowed);
            events.block_on(names).unwrap()
        };
        let mut cursors = OpenCursors::default();
        cursors.keep(5, names(), 10);
        assert!(cursors.take(5, 10).is_some());
        assert!(cursors.take(5, 10).is_none());
        cursors.keep(5, names(), 10);
        assert!(cursors.take(5, 9).is_none());
        for fd in 0..100 {
            cursors.make_room();
            cursors.keep(fd, names(), 0);
        }
        assert_eq!(cursors.lists.len(), MOST_LISTS);
        assert!(cursors.take(0, 0).is_none() && cursors.take(99, 0).is_some());
    }
}
