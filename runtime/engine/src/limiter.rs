//! Holds a container to its memory: all its linear memories and tables together.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use mote_spec::Bounds;
use wasmtime::ResourceLimiter;

use crate::control::Control;
use crate::gauge::Gauge;

/// What a table's element costs.
const ELEMENT: u64 = 16;

pub(crate) struct Limiter {
    control: Arc<Control>,
    bounds: Bounds,
    elements: u64,
    gauge: Arc<Gauge>,
    /// What was added to a memory last, to be taken back if the machine itself cannot give it.
    last: u64,
}

impl Limiter {
    pub(crate) fn new(control: Arc<Control>, bounds: Bounds, gauge: Arc<Gauge>) -> Limiter {
        Limiter { control, bounds, elements: 0, gauge, last: 0 }
    }

    fn take(&mut self, bytes: u64) -> bool {
        let used = self.gauge.memory.load(Ordering::Relaxed).saturating_add(bytes);
        let fits = used <= self.control.memory().get();
        self.gauge.refuse(!fits);
        if fits {
            self.gauge.memory.store(used, Ordering::Relaxed);
            self.gauge.memory_peak.fetch_max(used, Ordering::Relaxed);
        }
        fits
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Beyond its own maximum the memory fails to grow without any help.
        self.last = 0;
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let added = (desired - current) as u64;
        let fits = self.take(added);
        self.last = if fits { added } else { 0 };
        Ok(fits)
    }

    /// Comes after a growth that was allowed, and before anything else of the guest's.
    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.gauge.memory.fetch_sub(std::mem::take(&mut self.last), Ordering::Relaxed);
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let added = (desired - current) as u64;
        let over = self.elements.saturating_add(added) > u64::from(self.bounds.table_elements);
        let beyond = maximum.is_some_and(|maximum| desired > maximum);
        if over || beyond || !self.take(added.saturating_mul(ELEMENT)) {
            return Ok(false);
        }
        self.elements += added;
        Ok(true)
    }

    /// What this is told of was never allowed: a size that overflows is told without having been asked for, and
    /// one beyond the table's own maximum is refused above. A table for which the machine has no memory is
    /// the end of its guest.
    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        Ok(())
    }

    fn instances(&self) -> usize {
        self.bounds.instances as usize
    }

    fn tables(&self) -> usize {
        self.bounds.instances as usize
    }

    fn memories(&self) -> usize {
        self.bounds.instances as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mote_spec::{Bytes, Limits};

    fn limiter(memory: u64) -> (Limiter, Arc<Gauge>) {
        let gauge = Arc::new(Gauge::default());
        let bounds = Bounds { table_elements: 100, ..Bounds::default() };
        let limits = Limits { memory: Bytes::new(memory), ..Limits::default() };
        let control = Arc::new(Control::new(&limits));
        (Limiter::new(control, bounds, Arc::clone(&gauge)), gauge)
    }

    #[test]
    fn several_memories_and_tables_share_one_limit() {
        let (mut limiter, gauge) = limiter(10_000);
        assert!(limiter.memory_growing(0, 6_000, None).unwrap());
        assert!(!limiter.memory_growing(0, 6_000, None).unwrap(), "a second memory");
        assert!(limiter.table_growing(0, 100, None).unwrap());
        assert!(!limiter.table_growing(100, 101, None).unwrap(), "too many elements");
        assert!(limiter.memory_growing(6_000, 8_400, None).unwrap());
        assert!(!limiter.memory_growing(8_400, 8_401, None).unwrap());
        assert_eq!(gauge.memory.load(Ordering::Relaxed), 10_000);
    }

    #[test]
    fn sizes_that_overflow_give_nothing_back() {
        let (mut limiter, gauge) = limiter(10_000);
        assert!(limiter.memory_growing(0, 6_000, None).unwrap());
        limiter.table_grow_failed(wasmtime::format_err!("overflow")).unwrap();
        assert_eq!(gauge.memory.load(Ordering::Relaxed), 6_000);
        assert!(limiter.table_growing(0, 50, None).unwrap());
        assert!(!limiter.table_growing(50, usize::MAX, None).unwrap());
        assert!(!limiter.table_growing(50, 50 + usize::MAX / 16 + 1, None).unwrap());
        assert_eq!(gauge.memory.load(Ordering::Relaxed), 6_800);
    }

    #[test]
    fn what_the_machine_could_not_give_is_not_counted() {
        let (mut limiter, gauge) = limiter(1_000);
        assert!(limiter.memory_growing(0, 900, None).unwrap());
        limiter.memory_grow_failed(wasmtime::format_err!("no memory")).unwrap();
        assert_eq!(gauge.memory.load(Ordering::Relaxed), 0);
        assert!(!limiter.memory_growing(0, 900, Some(100)).unwrap());
        limiter.memory_grow_failed(wasmtime::format_err!("over its maximum")).unwrap();
        assert_eq!(gauge.memory.load(Ordering::Relaxed), 0);
    }
}
