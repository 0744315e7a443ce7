//! Ends the reading side of a socket that WASI's implementation holds.
//!
//! A guest of WASI 0.3 that drops the stream of `tcp-socket.receive` is done with reading. The stream is passed on
//! by mote ([`relay`](crate::relay)), and wasmtime tells the inner stream of a drop only with the next byte: on a
//! silent connection never, so that the call's future stays open and the peer is not told. The socket itself
//! is private to wasmtime-wasi. So it is looked for among this process's descriptors by its two addresses, which
//! no other socket of the network namespace has, and shut down for reading: the inner stream ends at once.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use rustix::net::SocketType;
use rustix::process::{Resource, getrlimit};

/// Descriptors that are looked through at most.
const MAX_LOOKED_AT: u64 = 1 << 17;

/// The two addresses of a connection: this side's and the peer's.
pub(crate) type Ends = (SocketAddr, SocketAddr);

/// Connections that are to be ended; one look through the descriptors ends all of them.
static PENDING: Mutex<Vec<Ends>> = Mutex::new(Vec::new());

/// Shuts a connection down for reading, on a thread that may take its time. Of many that come at once, one thread
/// ends all.
pub(crate) fn end_reading(ends: Ends) {
    let Ok(events) = tokio::runtime::Handle::try_current() else { return };
    let mut pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
    pending.push(ends);
    if pending.len() == 1 {
        events.spawn_blocking(end_pending);
    }
}

/// Ends what is pending until nothing is. The list keeps one entry for as long as this runs.
fn end_pending() {
    let mut done = 0;
    loop {
        let batch = {
            let mut pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
            pending.drain(..done);
            if pending.is_empty() {
                return;
            }
            done = pending.len();
            pending.clone()
        };
        for socket in sockets() {
            if ends_of(&socket).is_some_and(|ends| batch.contains(&ends)) {
                // It may have been closed meanwhile, and then there is nothing to end.
                let _ = socket.shutdown(Shutdown::Read);
            }
        }
    }
}

fn sockets() -> impl Iterator<Item = TcpStream> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(MAX_LOOKED_AT);
    let numbers = 0..RawFd::try_from(limit.min(MAX_LOOKED_AT)).unwrap_or(RawFd::MAX);
    numbers.filter_map(duplicate).map(TcpStream::from)
}

/// A descriptor of this process's own for whatever has a number, if that is a connection. A datagram socket may have
/// the same two addresses.
fn duplicate(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: the number is not used as an open file, only given to fcntl(2), which tells if it is none.
    let named = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::net::getpeername(named).ok()?;
    if rustix::net::sockopt::socket_type(named).ok()? != SocketType::STREAM {
        return None;
    }
    rustix::io::fcntl_dupfd_cloexec(named, 0).ok()
}

fn ends_of(socket: &TcpStream) -> Option<Ends> {
    Some((socket.local_addr().ok()?, socket.peer_addr().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    #[test]
    fn a_silent_connection_ends_for_its_reader() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_peer, _) = listener.accept().unwrap();
        let other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let ends = ends_of(&socket).unwrap();
        let events = tokio::runtime::Builder::new_current_thread().build().unwrap();
        events.block_on(async { end_reading(ends) });
        assert_eq!(socket.read(&mut [0]).unwrap(), 0, "it is at its end");
        other.set_nonblocking(true).unwrap();
        assert!((&other).read(&mut [0]).is_err(), "another connection is not");
    }
}
