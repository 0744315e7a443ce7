//! What makes files grow in WASI preview 1: `wasi_snapshot_preview1`, and the older `wasi_unstable`.
//!
//! Preview 1's table of descriptors is private to its implementation, so what is behind a
//! descriptor is taken note of when it is opened. With a quota, a descriptor whose file is not known may not
//! be written to: what cannot be accounted for does not happen.

use std::fs::File;
use std::sync::Arc;

use wasmtime::component::Resource;
use wasmtime::{AsContextMut, Caller, Extern, Linker};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::filesystem::{Descriptor, FsPerms};
use wasmtime_wasi::p1::types::{self, Errno, Fdflags, Filetype};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as raw, WasiSnapshotPreview1};
use wiggle::{GuestMemory, GuestPtr};

use crate::quota::Quota;
use crate::sandbox::{Noted, Sandbox};

pub(super) fn link(linker: &mut Linker<Sandbox>, module: &str) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        module,
        "fd_write",
        |mut caller: Caller<'_, Sandbox>, (fd, vectors, count, written): (i32, i32, i32, i32)| {
            Box::new(async move {
                let mut guest = Guest::of(&mut caller)?;
                if let Some(errno) = guest.charge(fd, (vectors, count), None).await? {
                    return Ok(errno);
                }
                raw::fd_write(&mut guest.sandbox.p1, &mut guest.memory, fd, vectors, count, written)
                    .await
            })
        },
    )?;
    linker.func_wrap_async(
        module,
        "fd_pwrite",
        |mut caller: Caller<'_, Sandbox>,
         (fd, vectors, count, at, written): (i32, i32, i32, i64, i32)| {
            Box::new(async move {
                let mut guest = Guest::of(&mut caller)?;
                if let Some(errno) = guest.charge(fd, (vectors, count), Some(at as u64)).await? {
                    return Ok(errno);
                }
                raw::fd_pwrite(
                    &mut guest.sandbox.p1,
                    &mut guest.memory,
                    fd,
                    vectors,
                    count,
                    at,
                    written,
                )
                .await
            })
        },
    )?;
    linker.func_wrap_async(
        module,
        "fd_filestat_set_size",
        |mut caller: Caller<'_, Sandbox>, (fd, size): (i32, i64)| {
            Box::new(async move {
                let mut guest = Guest::of(&mut caller)?;
                if let Some(errno) = guest.charge_length(fd, size as u64) {
                    return Ok(errno);
                }
                raw::fd_filestat_set_size(&mut guest.sandbox.p1, &mut guest.memory, fd, size).await
            })
        },
    )?;
    Ok(())
}

pub(super) fn link_renumber(linker: &mut Linker<Sandbox>, module: &str) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        module,
        "fd_renumber",
        |mut caller: Caller<'_, Sandbox>, (from, to): (i32, i32)| {
            Box::new(async move {
                let guest = Guest::of(&mut caller)?;
                let (sandbox, mut memory) = (guest.sandbox, guest.memory);
                let errno = raw::fd_renumber(&mut sandbox.p1, &mut memory, from, to).await?;
                if errno == 0 {
                    let moved = sandbox.noted.remove(&(from as u32));
                    sandbox.noted.remove(&(to as u32));
                    sandbox.begun.forget(from as u32);
                    sandbox.begun.forget(to as u32);
                    sandbox.noted.extend(moved.map(|noted| (to as u32, noted)));
                }
                Ok(errno)
            })
        },
    )?;
    Ok(())
}

/// How many vectors one call may write (`IOV_MAX` of limits.h).
const MOST_VECTORS: u32 = 1_024;

/// The guest's memory and its sandbox, as a host call sees them.
pub(super) struct Guest<'a> {
    pub(super) memory: GuestMemory<'a>,
    pub(super) sandbox: &'a mut Sandbox,
}

impl<'a> Guest<'a> {
    pub(super) fn of(caller: &'a mut Caller<'_, Sandbox>) -> wasmtime::Result<Guest<'a>> {
        let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
            return Err(wasmtime::format_err!("the module exports no memory"));
        };
        let fuel = caller.as_context_mut().hostcall_fuel();
        let (memory, sandbox) = memory.data_and_store_mut(caller);
        sandbox.p1.set_hostcall_fuel(fuel);
        Ok(Guest { memory: GuestMemory::Unshared(memory), sandbox })
    }

    /// Finds out which place in the table the next file will get.
    pub(super) fn prepare(&mut self) -> wasmtime::Result<u32> {
        // The descriptors that a guest starts with are put into the table by its first call that needs
        // them, which must not be the one that is about to happen.
        let _ = self.sandbox.p1.fd_prestat_get(&mut self.memory, types::Fd::from(3));
        let table = self.sandbox.p1.ctx().table;
        let probe = table.push(())?;
        let place = probe.rep();
        table.delete(probe)?;
        Ok(place)
    }

    /// Notes what was opened under a descriptor, and returns it if it is a file.
    pub(super) fn take_note(&mut self, place: u32, fd: u32) -> Option<Arc<File>> {
        let table = self.sandbox.p1.ctx().table;
        self.sandbox.noted.remove(&fd);
        self.sandbox.begun.forget(fd);
        match table.get(&Resource::<Descriptor>::new_borrow(place)) {
            Ok(Descriptor::File(opened)) => {
                let file = Arc::clone(&opened.file);
                self.sandbox.noted.insert(fd, Noted::File(Arc::downgrade(&file)));
                Some(file)
            }
            Ok(Descriptor::Dir(opened)) => {
                let is_read_only = opened.perms == FsPerms::ReadOnly;
                let dir = Arc::downgrade(&opened.dir);
                self.sandbox.noted.insert(fd, Noted::Dir { dir, is_read_only });
                None
            }
            Err(_) => None,
        }
    }

    fn known(&self, fd: i32) -> Option<(Arc<Quota>, Option<Arc<File>>)> {
        let quota = self.sandbox.quota.clone()?;
        let file = match self.sandbox.noted.get(&(fd as u32)) {
            Some(Noted::File(file)) => file.upgrade(),
            Some(Noted::Dir { .. } | Noted::Granted(_)) | None => None,
        };
        Some((quota, file))
    }

    /// Charges for a write; the error number to answer with if it may not happen.
    async fn charge(
        &mut self,
        fd: i32,
        vectors: (i32, i32),
        at: Option<u64>,
    ) -> wasmtime::Result<Option<i32>> {
        let Some((quota, file)) = self.known(fd) else { return Ok(None) };
        let descriptor = types::Fd::from(fd as u32);
        let Ok(status) = self.sandbox.p1.fd_fdstat_get(&mut self.memory, descriptor).await else {
            // Not a descriptor: the call itself says so.
            return Ok(None);
        };
        let Some(file) = file else {
            return Ok((status.fs_filetype == Filetype::RegularFile).then_some(Errno::Nospc as i32));
        };
        if vectors.1 as u32 > MOST_VECTORS {
            return Ok(Some(Errno::Inval as i32));
        }
        let bytes = self.first_vector(vectors)?;
        let charged = match (status.fs_flags.contains(Fdflags::APPEND), at) {
            (true, _) => quota.charge_append(&file, bytes),
            (false, Some(at)) => quota.charge(&file, at.saturating_add(bytes)),
            (false, None) => match self.sandbox.p1.fd_tell(&mut self.memory, descriptor) {
                Ok(at) => quota.charge(&file, at.saturating_add(bytes)),
                Err(_) => return Ok(None),
            },
        };
        Ok(charged.err().map(|_| Errno::Nospc as i32))
    }

    fn charge_length(&mut self, fd: i32, size: u64) -> Option<i32> {
        let (quota, file) = self.known(fd)?;
        match file {
            Some(file) => quota.charge(&file, size).err().map(|_| Errno::Nospc as i32),
            None => Some(Errno::Nospc as i32),
        }
    }

    /// The length of the first vector that is not empty: a call writes no more than that.
    fn first_vector(&self, (vectors, count): (i32, i32)) -> wasmtime::Result<u64> {
        for number in 0..count as u32 {
            let at = (vectors as u32).wrapping_add(number.wrapping_mul(8)).wrapping_add(4);
            let length: u32 = self.memory.read(GuestPtr::<u32>::new(at))?;
            if length > 0 {
                return Ok(u64::from(length));
            }
        }
        Ok(0)
    }
}
