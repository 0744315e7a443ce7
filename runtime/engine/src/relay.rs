//! Passes the bytes of a WASI 0.3 stream on, counted and paced.
//!
//! One chunk at a time stands between the two ends; each end wakes the other.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use wasmtime::component::{
    Destination, Source, StreamConsumer, StreamProducer, StreamReader, StreamResult,
};
use wasmtime::{AsContextMut, StoreContextMut};

use crate::gauge::Gauge;
use crate::pace::{Pace, Turn};
use crate::sandbox::Sandbox;
use crate::socket_end::{Ends, end_reading};

/// How much stands between the ends at most.
const CHUNK: usize = 64 << 10;

#[derive(Default)]
struct Between {
    chunk: Option<Bytes>,
    /// Whether nothing more will come in.
    ended: bool,
    /// Whether nobody takes what comes in.
    left: bool,
    giver: Option<Waker>,
    taker: Option<Waker>,
}

type Shared = Arc<Mutex<Between>>;

fn lock(shared: &Shared) -> MutexGuard<'_, Between> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes in what a stream brings.
struct Intake {
    shared: Shared,
    gauge: Arc<Gauge>,
    counter: fn(&Gauge) -> &AtomicU64,
    pace: Arc<Pace>,
    turn: Turn,
}

/// Gives out what was taken in. When nobody takes it any more, the connection that it comes from is ended for
/// reading, where there is one.
struct Outlet {
    shared: Shared,
    from: Option<Ends>,
}

/// Puts a counter and a pace into a stream, which comes from a connection or from the guest.
pub(crate) fn relay(
    mut store: impl AsContextMut<Data = Sandbox>,
    (stream, from): (StreamReader<u8>, Option<Ends>),
    counter: fn(&Gauge) -> &AtomicU64,
) -> wasmtime::Result<StreamReader<u8>> {
    let shared = Shared::default();
    let context = store.as_context_mut();
    let (gauge, pace) = (Arc::clone(&context.data().gauge), Arc::clone(&context.data().pace));
    stream.pipe(
        &mut store,
        Intake { shared: Arc::clone(&shared), gauge, counter, pace, turn: Turn::default() },
    )?;
    StreamReader::new(&mut store, Outlet { shared, from })
}

impl StreamConsumer<Sandbox> for Intake {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<'_, Sandbox>,
        source: Source<'_, u8>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let this = &mut *self;
        let not_yet =
            || if finish { Poll::Ready(Ok(StreamResult::Cancelled)) } else { Poll::Pending };
        if this.turn.poll(&this.pace, cx).is_pending() {
            return not_yet();
        }
        let mut between = lock(&this.shared);
        if between.left {
            return Poll::Ready(Ok(StreamResult::Dropped));
        }
        if between.chunk.is_some() {
            between.giver = Some(cx.waker().clone());
            return not_yet();
        }
        let mut source = source.as_direct(store);
        let bytes = source.remaining();
        let count = bytes.len().min(CHUNK).min(this.pace.at_once());
        if count > 0 {
            between.chunk = Some(Bytes::copy_from_slice(&bytes[..count]));
            source.mark_read(count);
            (this.counter)(&this.gauge).fetch_add(count as u64, Ordering::Relaxed);
            this.pace.passed(count);
            wake(&mut between.taker);
        }
        Poll::Ready(Ok(StreamResult::Completed))
    }
}

impl StreamProducer<Sandbox> for Outlet {
    type Item = u8;
    type Buffer = Bytes;

    fn poll_produce<'a>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        _store: StoreContextMut<'a, Sandbox>,
        mut destination: Destination<'a, u8, Bytes>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let mut between = lock(&self.shared);
        if let Some(chunk) = between.chunk.take() {
            destination.set_buffer(chunk);
            wake(&mut between.giver);
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        if between.ended {
            return Poll::Ready(Ok(StreamResult::Dropped));
        }
        if finish {
            return Poll::Ready(Ok(StreamResult::Cancelled));
        }
        between.taker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        let mut between = lock(&self.shared);
        between.ended = true;
        wake(&mut between.taker);
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let mut between = lock(&self.shared);
        between.left = true;
        wake(&mut between.giver);
        if let (false, Some(ends)) = (between.ended, self.from) {
            end_reading(ends);
        }
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
