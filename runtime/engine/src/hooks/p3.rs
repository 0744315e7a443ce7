//! What makes files grow in WASI 0.3: `wasi:filesystem/types`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;
use wasmtime::StoreContextMut;
use wasmtime::component::{
    Accessor, FutureReader, Linker, Resource, Source, StreamConsumer, StreamReader, StreamResult,
};
use wasmtime_wasi::filesystem::{
    Descriptor, FsPerms, OpenMode, WasiFilesystem, WasiFilesystemView,
};
use wasmtime_wasi::p3::bindings::filesystem::types::{ErrorCode, HostDescriptorWithStore};

use crate::quota::Quota;
use crate::sandbox::Sandbox;

/// Writes a guest's stream into a file, as far as the quota allows.
struct Charged {
    quota: Option<Arc<Quota>>,
    file: Arc<File>,
    position: Option<u64>,
    done: Option<oneshot::Sender<Result<(), ErrorCode>>>,
}

/// How much is written before others have a turn: the thread is held meanwhile.
const AT_ONCE: usize = 64 << 10;

impl Charged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() as u64;
        match &mut self.position {
            Some(at) => {
                if let Some(quota) = &self.quota {
                    quota.charge(&self.file, at.saturating_add(length))?;
                }
                self.file.write_all_at(bytes, *at)?;
                *at += length;
            }
            None => {
                if let Some(quota) = &self.quota {
                    quota.charge_append(&self.file, length)?;
                }
                let end = self.file.metadata()?.len();
                self.file.write_all_at(bytes, end)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, result: Result<(), ErrorCode>) {
        if let Some(done) = self.done.take() {
            // The guest may have lost interest in how it went.
            let _ = done.send(result);
        }
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        self.finish(Ok(()));
    }
}

impl StreamConsumer<Sandbox> for Charged {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        store: StoreContextMut<'_, Sandbox>,
        source: Source<'_, u8>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let mut source = source.as_direct(store);
        let bytes = source.remaining();
        let count = bytes.len().min(AT_ONCE);
        match self.write(&bytes[..count]) {
            Ok(()) => {
                source.mark_read(count);
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Err(error) => {
                self.finish(Err(code(&error)));
                Poll::Ready(Ok(StreamResult::Dropped))
            }
        }
    }
}

fn code(error: &io::Error) -> ErrorCode {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::InsufficientSpace,
        io::ErrorKind::PermissionDenied => ErrorCode::Access,
        io::ErrorKind::FileTooLarge => ErrorCode::FileTooLarge,
        _ => ErrorCode::Io,
    }
}

type Written = (FutureReader<Result<(), ErrorCode>>,);

fn pour(
    mut cx: StoreContextMut<'_, Sandbox>,
    descriptor: &Resource<Descriptor>,
    mut data: StreamReader<u8>,
    position: Option<u64>,
) -> wasmtime::Result<Written> {
    let quota = cx.data().quota.clone();
    let opened = match cx.data_mut().filesystem().table.get(descriptor)? {
        Descriptor::File(file) if file.perms == FsPerms::ReadOnly => Err(ErrorCode::NotPermitted),
        Descriptor::File(file) if !file.open_mode.contains(OpenMode::WRITE) => {
            Err(ErrorCode::BadDescriptor)
        }
        Descriptor::File(file) => Ok(Arc::clone(&file.file)),
        Descriptor::Dir(_) => Err(ErrorCode::BadDescriptor),
    };
    let (done, result) = oneshot::channel();
    match opened {
        Ok(file) => {
            let consumer = Charged { quota, file, position, done: Some(done) };
            data.pipe(&mut cx, consumer)?;
        }
        Err(code) => {
            data.close(&mut cx)?;
            let _ = done.send(Err(code));
        }
    }
    Ok((FutureReader::new(&mut cx, async move {
        Ok(result.await.unwrap_or(Ok(()))) as wasmtime::Result<_>
    })?,))
}

pub(super) fn link(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    let mut types = linker.instance("wasi:filesystem/types@0.3.0")?;
    types.func_wrap(
        "[method]descriptor.write-via-stream",
        |cx: StoreContextMut<'_, Sandbox>,
         (descriptor, data, at): (Resource<Descriptor>, StreamReader<u8>, u64)| {
            pour(cx, &descriptor, data, Some(at))
        },
    )?;
    types.func_wrap(
        "[method]descriptor.append-via-stream",
        |cx: StoreContextMut<'_, Sandbox>,
         (descriptor, data): (Resource<Descriptor>, StreamReader<u8>)| {
            pour(cx, &descriptor, data, None)
        },
    )?;
    types.func_wrap_concurrent(
        "[method]descriptor.set-size",
        |accessor: &Accessor<Sandbox>, (descriptor, size): (Resource<Descriptor>, u64)| {
            Box::pin(async move {
                let refused = accessor.with(|mut access| {
                    let sandbox = access.get();
                    let Some(quota) = sandbox.quota.clone() else {
                        return wasmtime::error::Ok(None);
                    };
                    Ok(match sandbox.filesystem().table.get(&descriptor)? {
                        Descriptor::File(file) => quota.charge(&file.file, size).err(),
                        Descriptor::Dir(_) => None,
                    })
                })?;
                if refused.is_some() {
                    return Ok((Err(ErrorCode::InsufficientSpace),));
                }
                let files = accessor
                    .with_getter::<WasiFilesystem>(<Sandbox as WasiFilesystemView>::filesystem);
                let set = <WasiFilesystem as HostDescriptorWithStore<Sandbox>>::set_size(
                    &files, descriptor, size,
                );
                match set.await {
                    Ok(()) => Ok((Ok(()),)),
                    Err(error) => Ok((Err(error.downcast()?),)),
                }
            })
        },
    )
}
