//! What makes names in WASI 0.3: files that are opened to be made, folders, links.

use wasmtime::component::{Accessor, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p3::bindings::filesystem::types::{
    DescriptorFlags, ErrorCode, HostDescriptorWithStore, OpenFlags, PathFlags,
};
use wasmtime_wasi::p3::filesystem::FilesystemError;

use super::{Leave, leave, made};
use crate::sandbox::Sandbox;

type Files = WasiFilesystem;
type Done = wasmtime::Result<(Result<(), ErrorCode>,)>;

fn leave_in(accessor: &Accessor<Sandbox>, dir: &Resource<Descriptor>) -> Result<Leave, ErrorCode> {
    accessor.with(|mut access| {
        let sandbox = access.get();
        let quota = sandbox.quota.clone();
        let Ok(dir) = sandbox.filesystem().table.get(dir) else { return Ok(None) };
        leave(quota.as_ref(), dir).map_err(|_| ErrorCode::InsufficientSpace)
    })
}

fn noted(done: Result<(), FilesystemError>, leave: Leave, path: &str) -> Done {
    match done {
        Ok(()) => {
            made(leave, path);
            Ok((Ok(()),))
        }
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}

pub(super) fn link(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    let mut types = linker.instance("wasi:filesystem/types@0.3.0")?;
    types.func_wrap_concurrent(
        "[method]descriptor.create-directory-at",
        |accessor: &Accessor<Sandbox>, (dir, path): (Resource<Descriptor>, String)| {
            Box::pin(async move {
                let leave = match leave_in(accessor, &dir) {
                    Ok(leave) => leave,
                    Err(full) => return Ok((Err(full),)),
                };
                let files =
                    accessor.with_getter::<Files>(<Sandbox as WasiFilesystemView>::filesystem);
                let done = <Files as HostDescriptorWithStore<Sandbox>>::create_directory_at(
                    &files,
                    dir,
                    path.clone(),
                );
                noted(done.await, leave, &path)
            })
        },
    )?;
    types.func_wrap_concurrent(
        "[method]descriptor.symlink-at",
        |accessor: &Accessor<Sandbox>, (dir, to, path): (Resource<Descriptor>, String, String)| {
            Box::pin(async move {
                let leave = match leave_in(accessor, &dir) {
                    Ok(leave) => leave,
                    Err(full) => return Ok((Err(full),)),
                };
                let files =
                    accessor.with_getter::<Files>(<Sandbox as WasiFilesystemView>::filesystem);
                let done = <Files as HostDescriptorWithStore<Sandbox>>::symlink_at(
                    &files,
                    dir,
                    to,
                    path.clone(),
                );
                noted(done.await, leave, &path)
            })
        },
    )?;
    types.func_wrap_concurrent(
        "[method]descriptor.link-at",
        |accessor: &Accessor<Sandbox>,
         (from, flags, old, dir, path): (
            Resource<Descriptor>,
            PathFlags,
            String,
            Resource<Descriptor>,
            String,
        )| {
            Box::pin(async move {
                let leave = match leave_in(accessor, &dir) {
                    Ok(leave) => leave,
                    Err(full) => return Ok((Err(full),)),
                };
                let files =
                    accessor.with_getter::<Files>(<Sandbox as WasiFilesystemView>::filesystem);
                let done = <Files as HostDescriptorWithStore<Sandbox>>::link_at(
                    &files,
                    from,
                    flags,
                    old,
                    dir,
                    path.clone(),
                );
                noted(done.await, leave, &path)
            })
        },
    )?;
    types.func_wrap_concurrent(
        "[method]descriptor.open-at",
        |accessor: &Accessor<Sandbox>,
         (dir, follow, path, open, flags): (
            Resource<Descriptor>,
            PathFlags,
            String,
            OpenFlags,
            DescriptorFlags,
        )| { Box::pin(open_at(accessor, dir, follow, path, (open, flags))) },
    )
}

async fn open_at(
    accessor: &Accessor<Sandbox>,
    dir: Resource<Descriptor>,
    follow: PathFlags,
    path: String,
    (open, flags): (OpenFlags, DescriptorFlags),
) -> wasmtime::Result<(Result<Resource<Descriptor>, ErrorCode>,)> {
    let makes = open.contains(OpenFlags::CREATE);
    let leave = if makes { leave_in(accessor, &dir) } else { Ok(None) };
    // On a full disk a file that is there opens all the same.
    let open = match &leave {
        Ok(_) => open,
        Err(_) if open.contains(OpenFlags::EXCLUSIVE) => {
            return Ok((Err(ErrorCode::InsufficientSpace),));
        }
        Err(_) => open & !OpenFlags::CREATE,
    };
    let files = accessor.with_getter::<Files>(<Sandbox as WasiFilesystemView>::filesystem);
    let opened = <Files as HostDescriptorWithStore<Sandbox>>::open_at(
        &files, dir, follow, path, open, flags,
    );
    let opened = match opened.await {
        Ok(opened) => opened,
        Err(error) => {
            let code = match (error.downcast()?, leave) {
                (ErrorCode::NoEntry, Err(full)) => full,
                (code, _) => code,
            };
            return Ok((Err(code),));
        }
    };
    if let Ok(Some((leave, _))) = leave {
        accessor.with(|mut access| {
            if let Descriptor::File(file) = access.get().filesystem().table.get(&opened)? {
                leave.opened(&file.file);
            }
            wasmtime::error::Ok(())
        })?;
    }
    Ok((Ok(opened),))
}
