//! Lists directories in WASI 0.3 piece by piece, as the guest reads.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::fs::FileType;
use tokio::sync::oneshot;
use wasmtime::StoreContextMut;
use wasmtime::component::{
    Destination, FutureReader, Linker, Resource, StreamProducer, StreamReader, StreamResult,
    VecBuffer,
};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p3::bindings::filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode};

use super::listing::{Depth, Name, Names};
use crate::sandbox::Sandbox;

/// How many entries are given out before others have a turn.
const AT_ONCE: usize = 64;

/// A list that is being read.
struct Listing {
    names: State,
    /// What comes after the entries that were given out.
    error: Option<ErrorCode>,
    done: Option<oneshot::Sender<Result<(), ErrorCode>>>,
}

enum State {
    Here(Names),
    /// Until more of them are read.
    Away(Pin<Box<dyn Future<Output = io::Result<Names>> + Send>>),
    Gone,
}

impl Listing {
    fn finish(&mut self, result: Result<(), ErrorCode>) {
        self.names = State::Gone;
        if let Some(done) = self.done.take() {
            // The guest may have lost interest in how it went.
            let _ = done.send(result);
        }
    }

    /// The next entries; none at the end.
    fn poll_entries(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Vec<DirectoryEntry>, ErrorCode>> {
        loop {
            if let Some(error) = self.error.take() {
                return Poll::Ready(Err(error));
            }
            match &mut self.names {
                State::Gone => return Poll::Ready(Ok(Vec::new())),
                State::Away(more) => {
                    self.names = State::Here(std::task::ready!(more.as_mut().poll(cx))?);
                }
                State::Here(names) if names.has_ended() => return Poll::Ready(Ok(Vec::new())),
                State::Here(names) => {
                    let mut entries = Vec::new();
                    while let Some(next) = names.next() {
                        match next {
                            Ok(name) => entries.push(described(name)),
                            Err(error) => self.error = Some(error.into()),
                        }
                        if self.error.is_some() || entries.len() == AT_ONCE {
                            break;
                        }
                    }
                    if !entries.is_empty() {
                        return Poll::Ready(Ok(entries));
                    }
                    if self.error.is_none()
                        && let State::Here(names) = std::mem::replace(&mut self.names, State::Gone)
                    {
                        self.names = State::Away(Box::pin(async { Ok(names.with_more().await) }));
                    }
                }
            }
        }
    }
}

fn described(Name { text, kind, .. }: Name) -> DirectoryEntry {
    let type_ = match kind {
        FileType::RegularFile => DescriptorType::RegularFile,
        FileType::Directory => DescriptorType::Directory,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        FileType::Fifo => DescriptorType::Fifo,
        FileType::Socket => DescriptorType::Socket,
        FileType::Unknown => DescriptorType::Other(None),
    };
    DirectoryEntry { type_, name: text }
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.finish(Ok(()));
    }
}

impl StreamProducer<Sandbox> for Listing {
    type Item = DirectoryEntry;
    type Buffer = VecBuffer<DirectoryEntry>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, Sandbox>,
        mut destination: Destination<'a, DirectoryEntry, VecBuffer<DirectoryEntry>>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        if destination.remaining(&mut store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let end = match self.poll_entries(cx) {
            // What is being read is kept for the next time.
            Poll::Pending if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(entries)) if !entries.is_empty() => {
                destination.set_buffer(entries.into());
                return Poll::Ready(Ok(StreamResult::Completed));
            }
            Poll::Ready(Ok(_)) => Ok(()),
            Poll::Ready(Err(code)) => Err(code),
        };
        self.finish(end);
        Poll::Ready(Ok(StreamResult::Dropped))
    }
}

type Listed = (StreamReader<DirectoryEntry>, FutureReader<Result<(), ErrorCode>>);

pub(super) fn link(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    linker.instance("wasi:filesystem/types@0.3.0")?.func_wrap(
        "[method]descriptor.read-directory",
        |mut cx: StoreContextMut<'_, Sandbox>, (descriptor,): (Resource<Descriptor>,)| {
            let (done, result) = oneshot::channel();
            let sandbox = cx.data_mut();
            let (lists, blocking) = (sandbox.lists.clone(), sandbox.blocking);
            let mut listing = Listing { names: State::Gone, error: None, done: Some(done) };
            match sandbox.filesystem().table.get(&descriptor)? {
                Descriptor::Dir(dir) => match lists.one_more() {
                    Ok(leave) => {
                        let dir = Arc::clone(&dir.dir);
                        let opened = Names::of(dir, Depth::Kind, leave, blocking);
                        listing.names = State::Away(Box::pin(opened));
                    }
                    Err(error) => listing.error = Some(error.into()),
                },
                Descriptor::File(_) => listing.error = Some(ErrorCode::NotDirectory),
            }
            let stream = StreamReader::new(&mut cx, listing)?;
            let result = FutureReader::new(&mut cx, async move {
                Ok(result.await.unwrap_or(Ok(()))) as wasmtime::Result<_>
            })?;
            Ok(((stream, result),)) as wasmtime::Result<(Listed,)>
        },
    )
}
