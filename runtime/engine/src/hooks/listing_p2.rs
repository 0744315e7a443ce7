//! Lists directories in WASI 0.2 piece by piece, as the guest reads.

use rustix::fs::FileType;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode};

use super::listing::Names;
use crate::sandbox::Sandbox;

pub(crate) fn link(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    let mut types = linker.instance("wasi:filesystem/types@0.2.12")?;
    types.resource(
        "directory-entry-stream",
        ResourceType::host::<Names>(),
        |mut cx: StoreContextMut<'_, Sandbox>, number| {
            cx.data_mut().filesystem().table.delete(Resource::<Names>::new_own(number))?;
            Ok(())
        },
    )?;
    types.func_wrap(
        "[method]descriptor.read-directory",
        |mut cx: StoreContextMut<'_, Sandbox>, (descriptor,): (Resource<Descriptor>,)| {
            let table = cx.data_mut().filesystem().table;
            let names = match table.get(&descriptor)? {
                Descriptor::Dir(dir) => Names::of(&*dir.dir).map_err(ErrorCode::from),
                Descriptor::File(_) => Err(ErrorCode::NotDirectory),
            };
            let opened = match names {
                Ok(names) => Ok(table.push(names)?),
                Err(code) => Err(code),
            };
            Ok((opened,)) as wasmtime::Result<(Result<Resource<Names>, ErrorCode>,)>
        },
    )?;
    types.func_wrap(
        "[method]directory-entry-stream.read-directory-entry",
        |mut cx: StoreContextMut<'_, Sandbox>, (stream,): (Resource<Names>,)| {
            let next = cx.data_mut().filesystem().table.get_mut(&stream)?.next_child();
            Ok((next.map_err(ErrorCode::from).map(|next| next.map(described)),))
                as wasmtime::Result<(Result<Option<DirectoryEntry>, ErrorCode>,)>
        },
    )
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
        FileType::Unknown => DescriptorType::Unknown,
    };
    DirectoryEntry { type_, name }
}
