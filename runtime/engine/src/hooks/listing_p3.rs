//! Lists directories in WASI 0.3 piece by piece, as the guest reads: WASI's own implementation keeps a thread
//! for every list that is being read, of those that all guests share.

use std::fs::{File, ReadDir};
use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;
use wasmtime::StoreContextMut;
use wasmtime::component::{
    Destination, FutureReader, Linker, Resource, StreamProducer, StreamReader, StreamResult,
    VecBuffer,
};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p3::bindings::filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode};

use crate::sandbox::Sandbox;

/// How many entries are read before others have a turn.
const AT_ONCE: usize = 64;

/// A list that is being read.
struct Listing {
    /// None where there is nothing to list.
    entries: Option<ReadDir>,
    done: Option<oneshot::Sender<Result<(), ErrorCode>>>,
}

impl Listing {
    fn of(opened: Result<&File, ErrorCode>, done: oneshot::Sender<Result<(), ErrorCode>>) -> Self {
        let listed = opened.and_then(|dir| {
            std::fs::read_dir(format!("/proc/self/fd/{}", dir.as_raw_fd()))
                .map_err(|_| ErrorCode::Access)
        });
        let mut listing = Listing { entries: None, done: Some(done) };
        match listed {
            Ok(entries) => listing.entries = Some(entries),
            Err(code) => listing.finish(Err(code)),
        }
        listing
    }

    fn finish(&mut self, result: Result<(), ErrorCode>) {
        self.entries = None;
        if let Some(done) = self.done.take() {
            // The guest may have lost interest in how it went.
            let _ = done.send(result);
        }
    }

    /// The next entries; none at the end.
    fn next(&mut self) -> Result<Vec<DirectoryEntry>, ErrorCode> {
        let Some(entries) = &mut self.entries else { return Ok(Vec::new()) };
        entries.take(AT_ONCE).map(described).collect()
    }
}

fn described(entry: io::Result<std::fs::DirEntry>) -> Result<DirectoryEntry, ErrorCode> {
    use std::os::unix::fs::FileTypeExt;
    let entry = entry.map_err(|_| ErrorCode::Io)?;
    let name = entry.file_name().into_string().map_err(|_| ErrorCode::IllegalByteSequence)?;
    let kind = entry.file_type().map_err(|_| ErrorCode::Io)?;
    let type_ = match kind {
        kind if kind.is_dir() => DescriptorType::Directory,
        kind if kind.is_file() => DescriptorType::RegularFile,
        kind if kind.is_symlink() => DescriptorType::SymbolicLink,
        kind if kind.is_block_device() => DescriptorType::BlockDevice,
        kind if kind.is_char_device() => DescriptorType::CharacterDevice,
        kind if kind.is_fifo() => DescriptorType::Fifo,
        kind if kind.is_socket() => DescriptorType::Socket,
        _ => DescriptorType::Other(None),
    };
    Ok(DirectoryEntry { type_, name })
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
                Descriptor::Dir(dir) => Ok(&*dir.dir),
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
