//! Lists directories in WASI 0.3 piece by piece, as the guest reads.

use std::pin::Pin;
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

use super::listing::Names;
use crate::sandbox::Sandbox;

/// How many entries are read before others have a turn.
const AT_ONCE: usize = 64;

/// A list that is being read.
struct Listing {
    /// None where there is nothing to list.
    names: Option<Names>,
    done: Option<oneshot::Sender<Result<(), ErrorCode>>>,
}

impl Listing {
    fn of(
        opened: Result<Names, ErrorCode>,
        done: oneshot::Sender<Result<(), ErrorCode>>,
    ) -> Listing {
        let mut listing = Listing { names: None, done: Some(done) };
        match opened {
            Ok(names) => listing.names = Some(names),
            Err(code) => listing.finish(Err(code)),
        }
        listing
    }

    fn finish(&mut self, result: Result<(), ErrorCode>) {
        self.names = None;
        if let Some(done) = self.done.take() {
            // The guest may have lost interest in how it went.
            let _ = done.send(result);
        }
    }

    /// The next entries; none at the end.
    fn next(&mut self) -> Result<Vec<DirectoryEntry>, ErrorCode> {
        let Some(names) = &mut self.names else { return Ok(Vec::new()) };
        let children = std::iter::from_fn(|| names.next_child().transpose());
        children.take(AT_ONCE).map(|child| Ok(described(child?))).collect()
    }
}

fn described((name, kind): (String, FileType)) -> DirectoryEntry {
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
    DirectoryEntry { type_, name }
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
        _cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, Sandbox>,
        mut destination: Destination<'a, DirectoryEntry, VecBuffer<DirectoryEntry>>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        if destination.remaining(&mut store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let end = match self.next() {
            Ok(entries) if !entries.is_empty() => {
                destination.set_buffer(entries.into());
                return Poll::Ready(Ok(StreamResult::Completed));
            }
            Ok(_) => Ok(()),
            Err(code) => Err(code),
        };
        self.finish(end);
        Poll::Ready(Ok(StreamResult::Dropped))
    }
}

type Listed = (StreamReader<DirectoryEntry>, FutureReader<Result<(), ErrorCode>>);

pub(crate) fn link(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    linker.instance("wasi:filesystem/types@0.3.0")?.func_wrap(
        "[method]descriptor.read-directory",
        |mut cx: StoreContextMut<'_, Sandbox>, (descriptor,): (Resource<Descriptor>,)| {
            let (done, result) = oneshot::channel();
            let opened = match cx.data_mut().filesystem().table.get(&descriptor)? {
                Descriptor::Dir(dir) => Names::of(&*dir.dir).map_err(ErrorCode::from),
                Descriptor::File(_) => Err(ErrorCode::NotDirectory),
            };
            let listing = Listing::of(opened, done);
            let stream = StreamReader::new(&mut cx, listing)?;
            let result = FutureReader::new(&mut cx, async move {
                Ok(result.await.unwrap_or(Ok(()))) as wasmtime::Result<_>
            })?;
            Ok(((stream, result),)) as wasmtime::Result<(Listed,)>
        },
    )
}
