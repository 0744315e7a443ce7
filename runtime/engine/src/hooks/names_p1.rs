//! What makes names in WASI preview 1: files that are opened to be made, folders, links.

use wasmtime::{Caller, Linker};
use wasmtime_wasi::p1::types::Errno;
use wasmtime_wasi::p1::wasi_snapshot_preview1 as raw;
use wiggle::GuestPtr;

use super::p1::Guest;
use super::{Leave, made};
use crate::sandbox::{Noted, Sandbox};

/// Bits of `oflags` (WASI preview 1, "oflags").
const CREATE: i32 = 1;
const EXCLUSIVE: i32 = 4;

pub(super) fn link(linker: &mut Linker<Sandbox>, module: &str) -> wasmtime::Result<()> {
    link_open(linker, module)?;
    linker.func_wrap_async(
        module,
        "path_create_directory",
        |mut caller: Caller<'_, Sandbox>, (dir, path, length): (i32, i32, i32)| {
            Box::new(async move {
                let mut guest = Guest::of(&mut caller)?;
                let Ok(leave) = guest.leave(dir) else { return Ok(Errno::Nospc as i32) };
                let (memory, p1) = (&mut guest.memory, &mut guest.sandbox.p1);
                let errno = raw::path_create_directory(p1, memory, dir, path, length).await?;
                guest.made(errno, leave, (path, length))
            })
        },
    )?;
    linker.func_wrap_async(
        module,
        "path_symlink",
        |mut caller: Caller<'_, Sandbox>,
         (to, to_length, dir, path, length): (i32, i32, i32, i32, i32)| {
            Box::new(async move {
                let mut guest = Guest::of(&mut caller)?;
                let Ok(leave) = guest.leave(dir) else { return Ok(Errno::Nospc as i32) };
                let (memory, p1) = (&mut guest.memory, &mut guest.sandbox.p1);
                let errno = raw::path_symlink(p1, memory, to, to_length, dir, path, length).await?;
                guest.made(errno, leave, (path, length))
            })
        },
    )?;
    linker.func_wrap_async(
        module,
        "path_link",
        |mut caller: Caller<'_, Sandbox>,
         (from, flags, old, old_length, dir, path, length): (i32, i32, i32, i32, i32, i32, i32)| {
            Box::new(async move {
                let mut guest = Guest::of(&mut caller)?;
                let Ok(leave) = guest.leave(dir) else { return Ok(Errno::Nospc as i32) };
                let (memory, p1) = (&mut guest.memory, &mut guest.sandbox.p1);
                let errno = raw::path_link(
                    p1, memory, from, flags, old, old_length, dir, path, length,
                )
                .await?;
                guest.made(errno, leave, (path, length))
            })
        },
    )?;
    Ok(())
}

fn link_open(linker: &mut Linker<Sandbox>, module: &str) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        module,
        "path_open",
        |mut caller: Caller<'_, Sandbox>,
         (dir, follow, path, length, oflags, rights, inheriting, flags, opened): (
            i32,
            i32,
            i32,
            i32,
            i32,
            i64,
            i64,
            i32,
            i32,
        )| {
            Box::new(async move {
                let mut guest = Guest::of(&mut caller)?;
                let note = guest.prepare()?;
                let makes = oflags & CREATE != 0;
                let leave = if makes { guest.leave(dir) } else { Ok(None) };
                // On a full disk a file that is there opens all the same.
                let oflags = match &leave {
                    Ok(_) => oflags,
                    Err(_) if oflags & EXCLUSIVE != 0 => return Ok(Errno::Nospc as i32),
                    Err(_) => oflags & !CREATE,
                };
                let errno = raw::path_open(
                    &mut guest.sandbox.p1,
                    &mut guest.memory,
                    dir,
                    follow,
                    path,
                    length,
                    oflags,
                    rights,
                    inheriting,
                    flags,
                    opened,
                )
                .await?;
                if errno == Errno::Noent as i32 && leave.is_err() {
                    return Ok(Errno::Nospc as i32);
                }
                if errno == Errno::Success as i32 {
                    let fd = guest.memory.read(GuestPtr::<u32>::new(opened as u32))?;
                    let file = guest.take_note(note, fd);
                    if let (Some(file), Ok(Some((leave, _)))) = (file, leave) {
                        leave.opened(&file);
                    }
                }
                Ok(errno)
            })
        },
    )?;
    Ok(())
}

impl Guest<'_> {
    fn leave(&self, dir: i32) -> std::io::Result<Leave> {
        let Some(quota) = &self.sandbox.quota else { return Ok(None) };
        let Some(Noted::Dir(dir)) = self.sandbox.noted.get(&(dir as u32)) else { return Ok(None) };
        let Some(dir) = dir.upgrade() else { return Ok(None) };
        Ok(Some((quota.name(&dir)?, dir)))
    }

    /// Notes what a call made, if it did.
    fn made(&self, errno: i32, leave: Leave, path: (i32, i32)) -> wasmtime::Result<i32> {
        if errno == Errno::Success as i32 {
            let path = GuestPtr::<str>::new((path.0 as u32, path.1 as u32));
            made(leave, &self.memory.as_cow_str(path)?);
        }
        Ok(errno)
    }
}
