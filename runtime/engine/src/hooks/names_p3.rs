//! What makes names in WASI 0.3: files that are opened to be made, folders, links.

use wasmtime::component::{Accessor, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p3::bindings::filesystem::types::{
    DescriptorFlags, ErrorCode, HostDescriptorWithStore, OpenFlags, PathFlags,
};
use wasmtime_wasi::p3::filesystem::FilesystemError;

use super::{Leave, Made, directory, leave, settle};
use crate::sandbox::Sandbox;

type Files = WasiFilesystem;
type Done = wasmtime::Result<(Result<(), ErrorCode>,)>;

fn leave_in(accessor: &Accessor<Sandbox>, dir: &Resource<Descriptor>) -> Result<Leave, ErrorCode> {
    accessor.with(|mut access| {
        let sandbox = access.get();
        let quota = sandbox.quota.clone();
        let dir = sandbox.filesystem().table.get(dir).ok().and_then(directory);
        leave(quota.as_ref(), dir).map_err(|_| ErrorCode::InsufficientSpace)
    })
}

fn noted(done: Result<(), FilesystemError>, leave: Leave, path: &str) -> Done {
    settle(leave, if done.is_ok() { Made::Named(path) } else { Made::Nothing });
    match done {
        Ok(()) => Ok((Ok(()),)),
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
    Ok(())
}

/// Opening, whether there is a quota or not.
pub(super) fn link_open(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    let mut types = linker.instance("wasi:filesystem/types@0.3.0")?;
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

type Opened = Result<Resource<Descriptor>, ErrorCode>;

async fn open_at(
    accessor: &Accessor<Sandbox>,
    dir: Resource<Descriptor>,
    follow: PathFlags,
    path: String,
    (open, flags): (OpenFlags, DescriptorFlags),
) -> wasmtime::Result<(Opened,)> {
    let files = accessor.with_getter::<Files>(<Sandbox as WasiFilesystemView>::filesystem);
    let attempt = async |dir: u32, open: OpenFlags| {
        let dir = Resource::new_borrow(dir);
        let opened = <Files as HostDescriptorWithStore<Sandbox>>::open_at(
            &files,
            dir,
            follow,
            path.clone(),
            open,
            flags,
        );
        wasmtime::error::Ok(match opened.await {
            Ok(opened) => Ok(opened),
            Err(error) => Err(error.downcast()?),
        })
    };
    if !accessor.with(|mut access| access.get().may_open()) {
        return Ok((Err(ErrorCode::Other(Some("too many open files".to_owned()))),));
    }
    let is_charged = accessor.with(|mut access| {
        let sandbox = access.get();
        sandbox.quota.is_some()
            && sandbox.filesystem().table.get(&dir).is_ok_and(|dir| directory(dir).is_some())
    });
    let makes = open.contains(OpenFlags::CREATE) && is_charged;
    if makes && !open.contains(OpenFlags::EXCLUSIVE) {
        // A file that is there is opened, also where no name may be made any more.
        let opened = attempt(dir.rep(), open & !OpenFlags::CREATE).await?;
        if !matches!(opened, Err(ErrorCode::NoEntry)) {
            return Ok((opened,));
        }
    }
    let leave = match makes {
        true => leave_in(accessor, &dir),
        false => Ok(None),
    };
    let leave = match leave {
        Ok(leave) => leave,
        Err(full) => return Ok((Err(full),)),
    };
    let opened = attempt(dir.rep(), open).await?;
    let file = match &opened {
        Ok(opened) => accessor.with(|mut access| {
            wasmtime::error::Ok(match access.get().filesystem().table.get(opened)? {
                Descriptor::File(file) => Some(std::sync::Arc::clone(&file.file)),
                Descriptor::Dir(_) => None,
            })
        })?,
        Err(_) => None,
    };
    settle(leave, file.as_deref().map_or(Made::Nothing, Made::File));
    Ok((opened,))
}
