//! The few things that the store does to a disk, behind a trait, so that tests can make any of them
//! fail or be lost to a power cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// What the store does to a disk to change it.
pub trait Disk: Send + Sync {
    /// Opens a file to append to, made if it is absent.
    fn append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Gives a file or folder another name on the same file system, replacing what had that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes everything below a folder durable.
    fn sync_tree(&self, path: &Path) -> io::Result<()>;
}

/// An open file of a `Disk`.
pub trait DiskFile: Write + Send {
    /// Lets the disk start to write what it was given, without waiting.
    fn hurry(&mut self) -> io::Result<()>;
    /// Makes the content durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Throws the content away.
    fn clear(&mut self) -> io::Result<()>;
}

/// The machine's disk.
pub struct RealDisk;

struct RealFile {
    file: File,
    written: u64,
    hurried: u64,
}

/// How much is given to the disk at a time while a file grows.
const HURRY_AFTER: u64 = 2 << 20;

impl Disk for RealDisk {
    fn append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let written = file.metadata()?.len();
        Ok(Box::new(RealFile { file, written, hurried: written }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn sync_tree(&self, path: &Path) -> io::Result<()> {
        rustix::fs::syncfs(File::open(path)?).map_err(io::Error::from)
    }
}

impl Write for RealFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl DiskFile for RealFile {
    fn hurry(&mut self) -> io::Result<()> {
        if self.written - self.hurried >= HURRY_AFTER {
            start_writeback(&self.file, self.hurried, self.written - self.hurried)?;
            self.hurried = self.written;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn clear(&mut self) -> io::Result<()> {
        (self.written, self.hurried) = (0, 0);
        self.file.set_len(0)
    }
}

/// The final sync then finds most of the pages on the disk already.
fn start_writeback(file: &File, from: u64, length: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let (from, length) = (from as libc::off64_t, length as libc::off64_t);
    // SAFETY: the descriptor is open for as long as `file` is borrowed; the call touches no memory.
    let result = unsafe {
        libc::sync_file_range(file.as_raw_fd(), from, length, libc::SYNC_FILE_RANGE_WRITE)
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
