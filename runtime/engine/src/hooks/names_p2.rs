//! What makes names in WASI 0.2: files that are opened to be made, folders, links.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, ErrorCode, HostDescriptor, OpenFlags, PathFlags,
};

use super::p2::outcome;
use super::{Leave, Made, directory, leave, settle};
use crate::sandbox::Sandbox;

type Done = wasmtime::Result<(Result<(), ErrorCode>,)>;

fn leave_in(sandbox: &mut Sandbox, dir: &Resource<Descriptor>) -> Result<Leave, ErrorCode> {
    let quota = sandbox.quota.clone();
    let dir = sandbox.filesystem().table.get(dir).ok().and_then(directory);
    leave(quota.as_ref(), dir).map_err(|_| ErrorCode::InsufficientSpace)
}

fn noted(done: Done, leave: Leave, path: &str) -> Done {
    settle(leave, if matches!(done, Ok((Ok(()),))) { Made::Named(path) } else { Made::Nothing });
    done
}

pub(super) fn link(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    let mut types = linker.instance("wasi:filesystem/types@0.2.12")?;
    types.func_wrap_async(
        "[method]descriptor.create-directory-at",
        |mut cx: StoreContextMut<'_, Sandbox>, (dir, path): (Resource<Descriptor>, String)| {
            Box::new(async move {
                let sandbox = cx.data_mut();
                let leave = match leave_in(sandbox, &dir) {
                    Ok(leave) => leave,
                    Err(full) => return Ok((Err(full),)),
                };
                let mut files = sandbox.filesystem();
                let done = HostDescriptor::create_directory_at(&mut files, dir, path.clone()).await;
                noted(outcome(done), leave, &path)
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.symlink-at",
        |mut cx: StoreContextMut<'_, Sandbox>,
         (dir, to, path): (Resource<Descriptor>, String, String)| {
            Box::new(async move {
                let sandbox = cx.data_mut();
                let leave = match leave_in(sandbox, &dir) {
                    Ok(leave) => leave,
                    Err(full) => return Ok((Err(full),)),
                };
                let mut files = sandbox.filesystem();
                let done = HostDescriptor::symlink_at(&mut files, dir, to, path.clone()).await;
                noted(outcome(done), leave, &path)
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.link-at",
        |mut cx: StoreContextMut<'_, Sandbox>,
         (from, flags, old, dir, path): (
            Resource<Descriptor>,
            PathFlags,
            String,
            Resource<Descriptor>,
            String,
        )| {
            Box::new(async move {
                let sandbox = cx.data_mut();
                let leave = match leave_in(sandbox, &dir) {
                    Ok(leave) => leave,
                    Err(full) => return Ok((Err(full),)),
                };
                let mut files = sandbox.filesystem();
                let done =
                    HostDescriptor::link_at(&mut files, from, flags, old, dir, path.clone()).await;
                noted(outcome(done), leave, &path)
            })
        },
    )?;
    Ok(())
}

/// Opening, whether there is a quota or not.
pub(super) fn link_open(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    let mut types = linker.instance("wasi:filesystem/types@0.2.12")?;
    types.func_wrap_async(
        "[method]descriptor.open-at",
        |mut cx: StoreContextMut<'_, Sandbox>,
         (dir, follow, path, open, flags): (
            Resource<Descriptor>,
            PathFlags,
            String,
            OpenFlags,
            DescriptorFlags,
        )| {
            Box::new(async move { open_at(cx.data_mut(), dir, follow, path, (open, flags)).await })
        },
    )
}

type Opened = wasmtime::Result<(Result<Resource<Descriptor>, ErrorCode>,)>;

async fn open_at(
    sandbox: &mut Sandbox,
    dir: Resource<Descriptor>,
    follow: PathFlags,
    path: String,
    (open, flags): (OpenFlags, DescriptorFlags),
) -> Opened {
    if !sandbox.may_open() {
        return Ok((Err(ErrorCode::Quota),));
    }
    let known = sandbox.filesystem().table.get(&dir).ok().and_then(directory);
    let is_charged = sandbox.quota.is_some() && known.is_some();
    let makes = open.contains(OpenFlags::CREATE) && is_charged;
    let again = Resource::new_borrow(dir.rep());
    if makes && !open.contains(OpenFlags::EXCLUSIVE) {
        // A file that is there is opened, also where no name may be made any more.
        let (there, files) = (open & !OpenFlags::CREATE, &mut sandbox.filesystem());
        let opened = HostDescriptor::open_at(files, dir, follow, path.clone(), there, flags).await;
        let (opened,) = outcome(opened)?;
        if !matches!(opened, Err(ErrorCode::NoEntry)) {
            return Ok((opened,));
        }
    }
    let leave = match makes {
        true => leave_in(sandbox, &again),
        false => Ok(None),
    };
    let leave = match leave {
        Ok(leave) => leave,
        Err(full) => return Ok((Err(full),)),
    };
    let mut files = sandbox.filesystem();
    let opened = HostDescriptor::open_at(&mut files, again, follow, path, open, flags).await;
    let (opened,) = outcome(opened)?;
    let file = match &opened {
        Ok(opened) => match files.table.get(opened)? {
            Descriptor::File(file) => Some(std::sync::Arc::clone(&file.file)),
            Descriptor::Dir(_) => None,
        },
        Err(_) => None,
    };
    settle(leave, file.as_deref().map_or(Made::Nothing, Made::File));
    Ok((opened,))
}
