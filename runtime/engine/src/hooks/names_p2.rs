//! What makes names in WASI 0.2: files that are opened to be made, folders, links.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, ErrorCode, HostDescriptor, OpenFlags, PathFlags,
};

use super::p2::outcome;
use super::{Leave, leave, made};
use crate::sandbox::Sandbox;

type Done = wasmtime::Result<(Result<(), ErrorCode>,)>;

fn leave_in(sandbox: &mut Sandbox, dir: &Resource<Descriptor>) -> Result<Leave, ErrorCode> {
    let quota = sandbox.quota.clone();
    let Ok(dir) = sandbox.filesystem().table.get(dir) else { return Ok(None) };
    leave(quota.as_ref(), dir).map_err(|_| ErrorCode::InsufficientSpace)
}

fn noted(done: Done, leave: Leave, path: &str) -> Done {
    if let Ok((Ok(()),)) = done {
        made(leave, path);
    }
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

async fn open_at(
    sandbox: &mut Sandbox,
    dir: Resource<Descriptor>,
    follow: PathFlags,
    path: String,
    (open, flags): (OpenFlags, DescriptorFlags),
) -> wasmtime::Result<(Result<Resource<Descriptor>, ErrorCode>,)> {
    let makes = open.contains(OpenFlags::CREATE);
    let leave = if makes { leave_in(sandbox, &dir) } else { Ok(None) };
    // On a full disk a file that is there opens all the same.
    let open = match leave {
        Ok(_) => open,
        Err(full) if open.contains(OpenFlags::EXCLUSIVE) => return Ok((Err(full),)),
        Err(_) => open & !OpenFlags::CREATE,
    };
    let mut files = sandbox.filesystem();
    let opened = HostDescriptor::open_at(&mut files, dir, follow, path, open, flags).await;
    let (opened,) = outcome(opened)?;
    match (&opened, leave) {
        (Err(ErrorCode::NoEntry), Err(full)) => return Ok((Err(full),)),
        (Ok(opened), Ok(Some((leave, _)))) => {
            if let Descriptor::File(file) = files.table.get(opened)? {
                leave.opened(&file.file);
            }
        }
        _ => {}
    }
    Ok((opened,))
}
