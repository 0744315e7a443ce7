//! Lists directories in WASI preview 1, from where the guest got to. WASI's own implementation reads all of a directory
//! at each call, and looks at every file in it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;

use rustix::fs::FileType;
use wasmtime::{Caller, Linker};
use wasmtime_wasi::p1::types::{Errno, Filetype};
use wasmtime_wasi::p1::wasi_snapshot_preview1::WasiSnapshotPreview1;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wiggle::{GuestMemory, GuestPtr};

use super::listing::{Depth, Identity, Names};
use super::p1::Guest;
use crate::sandbox::{Noted, Sandbox};

pub(super) fn link(linker: &mut Linker<Sandbox>, module: &str) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        module,
        "fd_readdir",
        |mut caller: Caller<'_, Sandbox>,
         (fd, at, length, cookie, used): (i32, i32, i32, i64, i32)| {
            Box::new(async move {
                let mut guest = Guest::of(&mut caller)?;
                let mut part = Part::new((at as u32, length as u32));
                match guest.list(fd as u32, cookie as u64, &mut part).await? {
                    Ok(()) => {
                        guest.memory.write(GuestPtr::<u32>::new(used as u32), part.used())?;
                        Ok(Errno::Success as i32)
                    }
                    Err(errno) => Ok(errno as i32),
                }
            })
        },
    )?;
    Ok(())
}

fn errno_of(error: io::Error) -> Errno {
    ErrorCode::from(error).into()
}

/// The directory itself and its parent come first.
const DOTS: [&str; 2] = [".", ".."];

impl Guest<'_> {
    /// Fills a part of the guest's memory with a list, from a place on. The inner error is the directory's.
    async fn list(
        &mut self,
        fd: u32,
        cookie: u64,
        part: &mut Part,
    ) -> wasmtime::Result<Result<(), Errno>> {
        // A descriptor that was closed may be noted still.
        let status = self.sandbox.p1.fd_fdstat_get(&mut self.memory, fd.into()).await;
        if !status.is_ok_and(|status| status.fs_filetype == Filetype::Directory) {
            return Ok(Err(Errno::Badf));
        }
        if cookie == 0 {
            self.sandbox.begun.forget(fd);
        }
        let mut given = cookie.saturating_sub(DOTS.len() as u64);
        let mut names = match self.names(fd, given).await {
            Ok(names) => names,
            Err(errno) => return Ok(Err(errno)),
        };
        for (number, dot) in (0u64..).zip(DOTS).skip_while(|(number, _)| *number < cookie) {
            // What the parent is, the guest need not know.
            let head = head(number + 1, (names.own, FileType::Directory), dot.len());
            part.put_entry(&head, dot, &mut self.memory)?;
        }
        while part.left > 0 {
            names = names.with_more().await;
            match names.next() {
                None => break,
                Some(Err(error)) => return Ok(Err(errno_of(error))),
                Some(Ok(name)) => {
                    let next = DOTS.len() as u64 + given + 1;
                    let identity = name.identity.unwrap_or_default();
                    let head = head(next, (identity, name.kind), name.text.len());
                    if !part.put_entry(&head, &name.text, &mut self.memory)? {
                        names.put_back(name);
                        break;
                    }
                    given += 1;
                }
            }
        }
        self.sandbox.begun.keep(fd, names, given);
        Ok(Ok(()))
    }

    /// The names of an open directory after so many.
    async fn names(&mut self, fd: u32, given: u64) -> Result<Names, Errno> {
        if let Some(names) = self.sandbox.begun.take(fd, given) {
            return Ok(names);
        }
        self.sandbox.begun.make_room();
        let leave = self.sandbox.lists.one_more().map_err(errno_of)?;
        let blocking = self.sandbox.blocking;
        let opened = match self.sandbox.noted.get(&fd) {
            Some(Noted::Dir { dir, .. }) => {
                let dir = dir.upgrade().ok_or(Errno::Badf)?;
                Names::of(dir, Depth::Identity, leave, blocking).await
            }
            Some(Noted::Granted(number)) => {
                let dir = self.sandbox.granted(*number).try_clone_to_owned().map_err(errno_of)?;
                Names::of(dir, Depth::Identity, leave, blocking).await
            }
            Some(Noted::File(_)) | None => return Err(Errno::Badf),
        };
        opened.map(|names| names.after(given)).map_err(errno_of)
    }
}

/// The part of a guest's memory that is filled with a list.
struct Part {
    at: u32,
    left: u32,
    length: u32,
}

/// The length of a `dirent` of preview 1, before the name.
const HEAD: usize = 24;

impl Part {
    fn new((at, length): (u32, u32)) -> Part {
        Part { at, left: length, length }
    }

    /// How much was filled: less than there is room for at the end of a directory alone.
    fn used(&self) -> u32 {
        self.length - self.left
    }

    /// Puts as much of an entry as there is room for; tells whether that was all.
    fn put_entry(
        &mut self,
        head: &[u8; HEAD],
        name: &str,
        memory: &mut GuestMemory<'_>,
    ) -> wasmtime::Result<bool> {
        Ok(self.put(head, memory)? && self.put(name.as_bytes(), memory)?)
    }

    fn put(&mut self, bytes: &[u8], memory: &mut GuestMemory<'_>) -> wasmtime::Result<bool> {
        let length = self.left.min(bytes.len() as u32);
        let fits = &bytes[..length as usize];
        memory.copy_from_slice(fits, GuestPtr::<[u8]>::new((self.at, length)))?;
        // The end of a memory of 4 GiB may be 0; nothing is put there.
        self.at = self.at.wrapping_add(length);
        self.left -= length;
        Ok(fits.len() == bytes.len())
    }
}

/// What comes before a name (WASI preview 1, "dirent").
fn head(next: u64, (of, kind): (Identity, FileType), name: usize) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[0..8].copy_from_slice(&next.to_le_bytes());
    head[8..16].copy_from_slice(&inode(of).to_le_bytes());
    head[16..20].copy_from_slice(&(name as u32).to_le_bytes());
    head[20] = filetype(kind) as u8;
    head
}

/// The number of a file as `path_filestat_get` tells it, which hides the host's own.
fn inode(of: Identity) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

fn filetype(kind: FileType) -> Filetype {
    match kind {
        FileType::RegularFile => Filetype::RegularFile,
        FileType::Directory => Filetype::Directory,
        FileType::Symlink => Filetype::SymbolicLink,
        FileType::BlockDevice => Filetype::BlockDevice,
        FileType::CharacterDevice => Filetype::CharacterDevice,
        FileType::Socket => Filetype::SocketStream,
        FileType::Fifo | FileType::Unknown => Filetype::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_of_an_entry_is_put_as_there_is_room_for() {
        let head = head(1, ((2, 3), FileType::Directory), 5);
        for length in 0..40 {
            let mut memory = vec![0xee; 64];
            let mut part = Part::new((8, length));
            let mut guest = GuestMemory::Unshared(&mut memory);
            let is_whole = part.put_entry(&head, "names", &mut guest).unwrap();
            let whole = HEAD as u32 + 5;
            assert_eq!(is_whole, length >= whole, "{length}");
            assert_eq!(part.used(), length.min(whole), "{length}");
            let end = 8 + part.used() as usize;
            assert!(memory[end..].iter().all(|byte| *byte == 0xee), "{length}");
            assert!([&head[..], b"names"].concat().starts_with(&memory[8..end]), "{length}");
        }
        let mut memory = vec![0; 16];
        let put = Part::new((8, 40)).put_entry(&head, "x", &mut GuestMemory::Unshared(&mut memory));
        assert!(put.is_err(), "there is no such memory");
    }
}
