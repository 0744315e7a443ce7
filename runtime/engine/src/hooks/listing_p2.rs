//! Lists directories in WASI 0.2 piece by piece, as the guest reads.

use std::sync::Arc;

use rustix::fs::FileType;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode};

use super::listing::{Depth, Name, Names};
use crate::sandbox::Sandbox;

/// A list that is being read; the names are away while more of them are read.
struct Listing(Option<Names>);

pub(super) fn link(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    let mut types = linker.instance("wasi:filesystem/types@0.2.12")?;
    types.resource(
        "directory-entry-stream",
        ResourceType::host::<Listing>(),
        |mut cx: StoreContextMut<'_, Sandbox>, number| {
            cx.data_mut().ctx().table.delete(Resource::<Listing>::new_own(number))?;
            Ok(())
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.read-directory",
        |mut cx: StoreContextMut<'_, Sandbox>, (descriptor,): (Resource<Descriptor>,)| {
            Box::new(async move { Ok((begin(cx.data_mut(), descriptor).await?,)) })
        },
    )?;
    types.func_wrap_async(
        "[method]directory-entry-stream.read-directory-entry",
        |mut cx: StoreContextMut<'_, Sandbox>, (stream,): (Resource<Listing>,)| {
            Box::new(async move { Ok((next(cx.data_mut(), stream).await?,)) })
        },
    )
}

async fn begin(
    sandbox: &mut Sandbox,
    descriptor: Resource<Descriptor>,
) -> wasmtime::Result<Result<Resource<Listing>, ErrorCode>> {
    let dir = match sandbox.ctx().table.get(&descriptor)? {
        Descriptor::Dir(dir) => Arc::clone(&dir.dir),
        Descriptor::File(_) => return Ok(Err(ErrorCode::NotDirectory)),
    };
    let leave = match sandbox.lists.one_more() {
        Ok(leave) => leave,
        Err(error) => return Ok(Err(error.into())),
    };
    match Names::of(dir, Depth::Kind, leave, sandbox.blocking).await {
        Ok(names) => Ok(Ok(sandbox.ctx().table.push(Listing(Some(names)))?)),
        Err(error) => Ok(Err(error.into())),
    }
}

async fn next(
    sandbox: &mut Sandbox,
    stream: Resource<Listing>,
) -> wasmtime::Result<Result<Option<DirectoryEntry>, ErrorCode>> {
    // It is away only during a call like this one, and a guest makes one at a time.
    let names = sandbox.ctx().table.get_mut(&stream)?.0.take();
    let names = names.ok_or_else(|| wasmtime::format_err!("the list is being read"))?;
    let mut names = names.with_more().await;
    let next = names.next().transpose();
    sandbox.ctx().table.get_mut(&stream)?.0 = Some(names);
    Ok(next.map(|next| next.map(described)).map_err(ErrorCode::from))
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
        FileType::Unknown => DescriptorType::Unknown,
    };
    DirectoryEntry { type_, name: text }
}
