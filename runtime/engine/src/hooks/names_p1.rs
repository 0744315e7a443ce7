//! What makes names in WASI preview 1: files that are opened to be made, folders, links.

use std::io;

use wasmtime::{Caller, Linker};
use wasmtime_wasi::p1::types::{self, Errno, Filetype};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as raw, WasiSnapshotPreview1};
use wiggle::GuestPtr;

use super::p1::Guest;
use super::{Leave, Made, leave, settle};
use crate::sandbox::{Noted, Sandbox};

/// Bits of `oflags` (WASI preview 1, "oflags").
const CREATE: i32 = 1;
const EXCLUSIVE: i32 = 4;

pub(super) fn link(linker: &mut Linker<Sandbox>, module: &str) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        module,
        "path_create_directory",
        |mut caller: Caller<'_, Sandbox>, (dir, path, length): (i32, i32, i32)| {
            Box::new(async move {
                let mut guest = Guest::of(&mut caller)?;
                let Ok(leave) = guest.leave(dir).await? else { return Ok(Errno::Nospc as i32) };
                let (memory, p1) = (&mut guest.memory, &mut guest.sandbox.p1);
                let errno = raw::path_create_directory(p1, memory, dir, path, length).await?;
                guest.settle(errno, leave, (path, length))
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
                let Ok(leave) = guest.leave(dir).await? else { return Ok(Errno::Nospc as i32) };
                let (memory, p1) = (&mut guest.memory, &mut guest.sandbox.p1);
                let errno = raw::path_symlink(p1, memory, to, to_length, dir, path, length).await?;
                guest.settle(errno, leave, (path, length))
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
                let Ok(leave) = guest.leave(dir).await? else { return Ok(Errno::Nospc as i32) };
                let (memory, p1) = (&mut guest.memory, &mut guest.sandbox.p1);
                let errno = raw::path_link(
                    p1, memory, from, flags, old, old_length, dir, path, length,
                )
                .await?;
                guest.settle(errno, leave, (path, length))
            })
        },
    )?;
    Ok(())
}

pub(super) fn link_open(linker: &mut Linker<Sandbox>, module: &str) -> wasmtime::Result<()> {
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
                let place = (dir, follow, path, length);
                guest
                    .open(Open { place, oflags, rights: (rights, inheriting), flags, opened })
                    .await
            })
        },
    )?;
    Ok(())
}

/// The arguments of `path_open`.
#[derive(Clone, Copy)]
struct Open {
    /// Directory, flags of the look-up, and where the path is and how long.
    place: (i32, i32, i32, i32),
    oflags: i32,
    rights: (i64, i64),
    flags: i32,
    /// Where the new descriptor's number goes.
    opened: i32,
}

impl Guest<'_> {
    /// Opens a file, and charges for its name if it was not there.
    async fn open(&mut self, call: Open) -> wasmtime::Result<i32> {
        let Open { place: (dir, ..), oflags, .. } = call;
        let makes = oflags & CREATE != 0 && self.is_charged(dir);
        if makes && oflags & EXCLUSIVE == 0 {
            // A file that is there is opened, also where no name may be made any more.
            let errno = self.try_open(Open { oflags: oflags & !CREATE, ..call }, None).await?;
            if errno != Errno::Noent as i32 {
                return Ok(errno);
            }
        }
        let leave = match makes {
            true => self.leave(dir).await?,
            false => Ok(None),
        };
        match leave {
            Ok(leave) => self.try_open(call, leave).await,
            Err(_) => Ok(Errno::Nospc as i32),
        }
    }

    async fn try_open(&mut self, call: Open, leave: Leave) -> wasmtime::Result<i32> {
        let note = self.prepare()?;
        if !self.sandbox.may_open() {
            return Ok(Errno::Nfile as i32);
        }
        let Open { place: (dir, follow, path, length), oflags, rights, flags, opened } = call;
        let (memory, p1) = (&mut self.memory, &mut self.sandbox.p1);
        let errno = raw::path_open(
            p1, memory, dir, follow, path, length, oflags, rights.0, rights.1, flags, opened,
        )
        .await?;
        let file = match errno == Errno::Success as i32 {
            true => {
                let fd = self.memory.read(GuestPtr::<u32>::new(opened as u32))?;
                self.take_note(note, fd)
            }
            false => None,
        };
        settle(leave, file.as_deref().map_or(Made::Nothing, Made::File));
        Ok(errno)
    }

    fn is_charged(&self, dir: i32) -> bool {
        let dir = self.sandbox.noted.get(&(dir as u32));
        self.sandbox.quota.is_some() && matches!(dir, Some(Noted::Dir { is_read_only: false, .. }))
    }

    /// Leave to make a name; the inner error is that there is none. A directory that is not known
    /// gets none: what cannot be accounted for does not happen.
    async fn leave(&mut self, dir: i32) -> wasmtime::Result<io::Result<Leave>> {
        let known = match self.sandbox.noted.get(&(dir as u32)) {
            Some(Noted::Dir { dir, is_read_only: false }) => dir.upgrade(),
            Some(Noted::File(_) | Noted::Dir { .. } | Noted::Granted(_)) => return Ok(Ok(None)),
            None => None,
        };
        if known.is_some() {
            return Ok(leave(self.sandbox.quota.as_ref(), known));
        }
        let fd = types::Fd::from(dir as u32);
        Ok(match self.sandbox.p1.fd_fdstat_get(&mut self.memory, fd).await {
            Ok(status) if status.fs_filetype == Filetype::Directory => {
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            // Not a directory: the call itself says so.
            Ok(_) | Err(_) => Ok(None),
        })
    }

    /// Notes what a call made, if it did.
    fn settle(&self, errno: i32, leave: Leave, path: (i32, i32)) -> wasmtime::Result<i32> {
        if errno == Errno::Success as i32 {
            let path = GuestPtr::<str>::new((path.0 as u32, path.1 as u32));
            settle(leave, Made::Named(&self.memory.as_cow_str(path)?));
        } else {
            settle(leave, Made::Nothing);
        }
        Ok(errno)
    }
}
