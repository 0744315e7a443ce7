//! Lists directories in WASI preview 1, from where the guest got to. WASI's own implementation reads all of a directory
//! at each call, and looks at every file in it.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::Arc;

use rustix::fs::{FileType, Stat};
use wasmtime::{Caller, Linker};
use wasmtime_wasi::p1::types::{Errno, Filetype};
use wasmtime_wasi::p1::wasi_snapshot_preview1::WasiSnapshotPreview1;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wiggle::{GuestMemory, GuestPtr};

use super::listing::{Name, Names};
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
                let names = match guest.names(fd, cookie as u64).await {
                    Ok(names) => names,
                    Err(errno) => return Ok(errno as i32),
                };
                let mut list = List::new((at as u32, length as u32));
                if let Err(error) = list.fill(names, &mut guest.memory).await? {
                    return Ok(errno_of(error) as i32);
                }
                guest.memory.write(GuestPtr::<u32>::new(used as u32), list.used())?;
                Ok(Errno::Success as i32)
            })
        },
    )?;
    Ok(())
}

fn errno_of(error: io::Error) -> Errno {
    ErrorCode::from(error).into()
}

impl Guest<'_> {
    /// The names of an open directory from a place on.
    async fn names(&mut self, fd: i32, cookie: u64) -> Result<Names, Errno> {
        // One that was closed may be noted still.
        let status = self.sandbox.p1.fd_fdstat_get(&mut self.memory, (fd as u32).into()).await;
        if !status.is_ok_and(|status| status.fs_filetype == Filetype::Directory) {
            return Err(Errno::Badf);
        }
        let mut names = self.directory(fd as u32)?;
        if cookie != 0 {
            names.go_on_at(cookie).map_err(errno_of)?;
        }
        Ok(names)
    }

    fn directory(&self, fd: u32) -> Result<Names, Errno> {
        match self.sandbox.noted.get(&fd) {
            Some(Noted::Dir { dir, .. }) => {
                let dir: Arc<File> = dir.upgrade().ok_or(Errno::Badf)?;
                Names::of(dir).map_err(errno_of)
            }
            Some(Noted::Granted(number)) => {
                Names::of(self.sandbox.granted(*number)).map_err(errno_of)
            }
            Some(Noted::File(_)) | None => Err(Errno::Badf),
        }
    }
}

/// The part of a guest's memory that is filled with a list.
struct List {
    at: u32,
    left: u32,
    length: u32,
}

/// How many names are listed before others have a turn.
const AT_ONCE: usize = 64;
/// The length of a `dirent` of preview 1, before the name.
const HEAD: usize = 24;

impl List {
    fn new((at, length): (u32, u32)) -> List {
        List { at, left: length, length }
    }

    /// How much was filled: less than there is room for at the end of a directory alone.
    fn used(&self) -> u32 {
        self.length - self.left
    }

    /// Fills it with names; the last one may be cut off. The inner error is the directory's, the outer one the guest's.
    async fn fill(
        &mut self,
        mut names: Names,
        memory: &mut GuestMemory<'_>,
    ) -> wasmtime::Result<io::Result<()>> {
        for number in 1.. {
            let entry = match entry(&mut names) {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(error) => return Ok(Err(error)),
            };
            for part in [&entry.0[..], entry.1.as_bytes()] {
                let most = usize::try_from(self.left).unwrap_or(usize::MAX);
                self.put(&part[..part.len().min(most)], memory)?;
            }
            if self.left == 0 {
                break;
            }
            if number % AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok(Ok(()))
    }

    fn put(&mut self, bytes: &[u8], memory: &mut GuestMemory<'_>) -> wasmtime::Result<()> {
        let length = bytes.len() as u32;
        memory.copy_from_slice(bytes, GuestPtr::<[u8]>::new((self.at, length)))?;
        // The end of a memory of 4 GiB may be 0; nothing is put there.
        self.at = self.at.wrapping_add(length);
        self.left -= length;
        Ok(())
    }
}

/// The next entry of a list, as a guest reads it; none at the end.
fn entry(names: &mut Names) -> io::Result<Option<([u8; HEAD], String)>> {
    while let Some(name) = names.next()? {
        // It may have gone since.
        if let Some(stat) = names.look_at(&name)? {
            let Name { next, .. } = name;
            let name = name.text()?;
            return Ok(Some((head(next, &stat, name.len()), name)));
        }
    }
    Ok(None)
}

/// What comes before a name (WASI preview 1, "dirent").
fn head(next: u64, stat: &Stat, name: usize) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[0..8].copy_from_slice(&next.to_le_bytes());
    head[8..16].copy_from_slice(&inode(stat).to_le_bytes());
    head[16..20].copy_from_slice(&(name as u32).to_le_bytes());
    head[20] = kind(FileType::from_raw_mode(stat.st_mode)) as u8;
    head
}

/// The number of a file as `path_filestat_get` tells it, which hides the host's own.
fn inode(stat: &Stat) -> u64 {
    let mut hasher = DefaultHasher::new();
    (stat.st_dev, stat.st_ino).hash(&mut hasher);
    hasher.finish()
}

fn kind(of: FileType) -> Filetype {
    match of {
        FileType::RegularFile => Filetype::RegularFile,
        FileType::Directory => Filetype::Directory,
        FileType::Symlink => Filetype::SymbolicLink,
        FileType::BlockDevice => Filetype::BlockDevice,
        FileType::CharacterDevice => Filetype::CharacterDevice,
        FileType::Socket => Filetype::SocketStream,
        FileType::Fifo | FileType::Unknown => Filetype::Unknown,
    }
}
