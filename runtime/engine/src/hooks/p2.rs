//! What makes files grow in WASI 0.2: `wasi:filesystem/types`.

use std::fs::File;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::types::{ErrorCode, HostDescriptor};
use wasmtime_wasi::p2::{
    DynOutputStream, FsError, OutputStream, Pollable, StreamError, StreamResult,
};

use crate::quota::Quota;
use crate::sandbox::Sandbox;

/// A stream into a file that asks the quota before it writes, and holds no more than a chunk.
struct Charged {
    inner: DynOutputStream,
    quota: Option<(Arc<Quota>, Arc<File>)>,
    position: Position,
}

/// How much of a stream stands between a guest and its file.
const CHUNK: usize = 64 << 10;

enum Position {
    At(u64),
    End,
}

impl Charged {
    fn charge(&mut self, bytes: usize) -> StreamResult<()> {
        let Some((quota, file)) = &self.quota else { return Ok(()) };
        let bytes = bytes as u64;
        let charged = match &mut self.position {
            Position::At(at) => {
                let end = at.saturating_add(bytes);
                quota.charge(file, end).inspect(|()| *at = end)
            }
            Position::End => quota.charge_append(file, bytes),
        };
        charged.map_err(|error| StreamError::LastOperationFailed(error.into()))
    }
}

#[async_trait]
impl Pollable for Charged {
    async fn ready(&mut self) {
        self.inner.ready().await;
    }
}

#[async_trait]
impl OutputStream for Charged {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        // A guest may write without asking how much.
        if bytes.len() > self.check_write()? {
            return Err(StreamError::trap("a write of more than there was room for"));
        }
        self.charge(bytes.len())?;
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.inner.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(self.inner.check_write()?.min(CHUNK))
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.charge(bytes.len())?;
        self.inner.blocking_write_and_flush(bytes).await
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

/// The file behind a descriptor, and the quota, where there are both.
fn charged(
    sandbox: &mut Sandbox,
    descriptor: &Resource<Descriptor>,
) -> wasmtime::Result<Option<(Arc<Quota>, Arc<File>)>> {
    let Some(quota) = sandbox.quota.clone() else { return Ok(None) };
    Ok(match sandbox.filesystem().table.get(descriptor)? {
        Descriptor::File(file) => Some((quota, Arc::clone(&file.file))),
        Descriptor::Dir(_) => None,
    })
}

pub(super) fn outcome<T>(result: Result<T, FsError>) -> wasmtime::Result<(Result<T, ErrorCode>,)> {
    match result {
        Ok(value) => Ok((Ok(value),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}

fn wrapped(
    sandbox: &mut Sandbox,
    descriptor: Resource<Descriptor>,
    position: Position,
) -> wasmtime::Result<(Result<Resource<DynOutputStream>, ErrorCode>,)> {
    let charged = charged(sandbox, &descriptor)?;
    let mut files = sandbox.filesystem();
    let opened = match position {
        Position::At(at) => HostDescriptor::write_via_stream(&mut files, descriptor, at),
        Position::End => HostDescriptor::append_via_stream(&mut files, descriptor),
    };
    let stream = match outcome(opened)? {
        (Ok(stream),) => stream,
        refused => return Ok(refused),
    };
    let inner = files.table.delete(stream)?;
    let stream = Box::new(Charged { inner, quota: charged, position }) as DynOutputStream;
    Ok((Ok(files.table.push(stream)?),))
}

/// Streams into files, whether there is a quota or not.
pub(super) fn link_streams(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    let mut types = linker.instance("wasi:filesystem/types@0.2.12")?;
    types.func_wrap(
        "[method]descriptor.write-via-stream",
        |mut cx: StoreContextMut<'_, Sandbox>, (descriptor, at): (Resource<Descriptor>, u64)| {
            wrapped(cx.data_mut(), descriptor, Position::At(at))
        },
    )?;
    types.func_wrap(
        "[method]descriptor.append-via-stream",
        |mut cx: StoreContextMut<'_, Sandbox>, (descriptor,): (Resource<Descriptor>,)| {
            wrapped(cx.data_mut(), descriptor, Position::End)
        },
    )
}

pub(super) fn link(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    let mut types = linker.instance("wasi:filesystem/types@0.2.12")?;
    types.func_wrap_async(
        "[method]descriptor.write",
        |mut cx: StoreContextMut<'_, Sandbox>,
         (descriptor, bytes, at): (Resource<Descriptor>, Vec<u8>, u64)| {
            Box::new(async move {
                let sandbox = cx.data_mut();
                let end = at.saturating_add(bytes.len() as u64);
                if let Some(full) =
                    refused(charged(sandbox, &descriptor)?, |quota, file| quota.charge(file, end))
                {
                    return Ok((Err(full),));
                }
                outcome(
                    HostDescriptor::write(&mut sandbox.filesystem(), descriptor, bytes, at).await,
                )
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.set-size",
        |mut cx: StoreContextMut<'_, Sandbox>, (descriptor, size): (Resource<Descriptor>, u64)| {
            Box::new(async move {
                let sandbox = cx.data_mut();
                if let Some(full) =
                    refused(charged(sandbox, &descriptor)?, |quota, file| quota.charge(file, size))
                {
                    return Ok((Err(full),));
                }
                outcome(HostDescriptor::set_size(&mut sandbox.filesystem(), descriptor, size).await)
            })
        },
    )
}

/// What to answer if the quota refuses.
fn refused(
    charged: Option<(Arc<Quota>, Arc<File>)>,
    ask: impl Fn(&Quota, &Arc<File>) -> io::Result<()>,
) -> Option<ErrorCode> {
    let (quota, file) = charged?;
    ask(&quota, &file).err().map(|_| ErrorCode::InsufficientSpace)
}
