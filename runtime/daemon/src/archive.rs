//! Copies files into and out of containers, as tar archives.
//!
//! A path in a container leads to a granted directory, to scratch space of a run, to the run's copy of
//! the image's files, or to these themselves. Everything is walked through cap-std: a link in a
//! container leads nowhere outside of what its path led to.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Component, Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, Metadata, MetadataExt, PermissionsExt};
use mote_image::bounds::{self, Bounded, Budget, MAX_DEPTH};
use mote_image::{Target, bytes_below};
use mote_spec::{Access, Root};

use crate::entry::Entry;
use crate::error::DaemonError;

/// A place in a container, and what of the machine it is.
pub(crate) struct Place {
    dir: Dir,
    below: PathBuf,
    access: Access,
    /// How many bytes there may be below a folder of the host's, where they are bounded.
    bound: Option<(PathBuf, u64)>,
    shown: String,
}

/// What is at a place.
pub(crate) struct Stat {
    pub(crate) name: String,
    pub(crate) size: u64,
    /// As Go's `fs.FileMode` has it.
    pub(crate) mode: u32,
    pub(crate) modified: std::time::SystemTime,
    pub(crate) link: String,
}

/// Finds what a path in a container leads to. Blocks.
pub(crate) fn place(entry: &Entry, path: &str) -> Result<Place, DaemonError> {
    let record = entry.record();
    let grants = record.policy.grants();
    let wanted = normal(path);
    let running = entry.guest.place();
    let mut roots: Vec<(PathBuf, PathBuf, Access, Option<u64>)> = grants
        .dirs
        .iter()
        .map(|dir| (PathBuf::from(dir.guest.as_str()), dir.host.clone(), dir.access, None))
        .collect();
    if let Some(folder) = &running {
        let scratch = grants.scratch.iter().enumerate();
        roots.extend(scratch.map(|(number, space)| {
            let guest = PathBuf::from(space.guest.as_str());
            let size = Some(space.size.get());
            (guest, folder.join(number.to_string()), Access::ReadWrite, size)
        }));
    }
    if let Some(files) = &record.image.files {
        let root = PathBuf::from("/");
        match (&running, grants.root) {
            (Some(folder), Root::Copy) => {
                roots.push((root, folder.join("root"), Access::ReadWrite, None));
            }
            (_, Root::ReadOnly) | (None, Root::Copy) => {
                roots.push((root, files.tree.clone(), Access::ReadOnly, None));
            }
        }
    }
    let inside = roots.into_iter().filter(|(guest, _, _, _)| wanted.starts_with(guest));
    let nearest = inside.max_by_key(|(guest, _, _, _)| guest.components().count());
    let none = || DaemonError::Nothing {
        what: "container path",
        name: format!(
            "{}:{path}; it is in no volume, scratch space or file of the image",
            record.name
        ),
    };
    let (guest, host, access, size) = nearest.ok_or_else(none)?;
    let dir = Dir::open_ambient_dir(&host, ambient_authority()).map_err(|_| none())?;
    // What was decided on is this very path: a link in it would lead where nobody decided.
    let real = std::fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    if real.is_ok_and(|real| real != host) {
        let why = format!("{} is a link to another folder now", host.display());
        return Err(DaemonError::Forbidden(why));
    }
    let below = wanted.strip_prefix(&guest).unwrap_or(Path::new("")).to_owned();
    let bound = size.map(|size| (host, size));
    Ok(Place { dir, below, access, bound, shown: path.to_owned() })
}

/// An absolute path without `.` and `..`, which may not lead out of a place.
fn normal(path: &str) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => drop(normal.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    normal
}

impl Place {
    fn missing(&self) -> DaemonError {
        DaemonError::Nothing { what: "container path", name: self.shown.clone() }
    }

    fn failed(&self, error: &io::Error) -> DaemonError {
        match error.kind() {
            io::ErrorKind::NotFound => self.missing(),
            _ => DaemonError::Failed(format!("cannot use {}: {error}", self.shown)),
        }
    }

    fn is_whole(&self) -> bool {
        self.below.as_os_str().is_empty()
    }

    fn metadata(&self) -> io::Result<Metadata> {
        match self.is_whole() {
            true => self.dir.dir_metadata(),
            false => self.dir.symlink_metadata(&self.below),
        }
    }

    fn name(&self) -> String {
        match self.below.file_name() {
            Some(name) => name.to_string_lossy().into_owned(),
            None => {
                let shown = normal(&self.shown);
                shown.file_name().map_or("/".into(), |name| name.to_string_lossy().into_owned())
            }
        }
    }

    pub(crate) fn stat(&self) -> Result<Stat, DaemonError> {
        let found = self.metadata().map_err(|error| self.failed(&error))?;
        let link = match found.is_symlink() {
            true => self.dir.read_link_contents(&self.below).unwrap_or_default(),
            false => PathBuf::new(),
        };
        let modified = found.modified().map_or(std::time::UNIX_EPOCH, |time| time.into_std());
        Ok(Stat {
            name: self.name(),
            size: found.len(),
            mode: go_mode(&found),
            modified,
            link: link.to_string_lossy().into_owned(),
        })
    }

    /// Writes what is at the place as an archive. Blocks.
    pub(crate) fn read(&self, to: impl Write) -> Result<(), DaemonError> {
        let mut archive = tar::Builder::new(to);
        archive.mode(tar::HeaderMode::Complete);
        let name = PathBuf::from(self.name().trim_start_matches('/').to_owned());
        let name = if name.as_os_str().is_empty() { PathBuf::from(".") } else { name };
        let written = match self.is_whole() {
            true => {
                let dir = self.dir.try_clone();
                dir.and_then(|dir| {
                    append_folder(&mut archive, &dir.dir_metadata()?, &name)?;
                    append_below(&mut archive, &dir, &name, 0)
                })
            }
            false => append(&mut archive, &self.dir, &self.below, (&name, 0)),
        };
        written.and_then(|()| archive.finish()).map_err(|error| self.failed(&error))
    }

    /// Unpacks an archive below the place, which is a folder. Blocks.
    pub(crate) fn write(&self, mut from: impl Read) -> Result<(), DaemonError> {
        if self.access == Access::ReadOnly {
            return Err(DaemonError::Forbidden(format!(
                "{} is read-only in the container; what a stopped container's image holds is, too",
                self.shown
            )));
        }
        let opened = match self.is_whole() {
            true => self.dir.try_clone(),
            false => self.dir.open_dir(&self.below),
        };
        let dir = opened.map_err(|error| self.failed(&error))?;
        let bad = |error: io::Error| {
            DaemonError::BadRequest(format!("the archive cannot be unpacked: {error}"))
        };
        let mut first = Vec::new();
        from.by_ref().take(2).read_to_end(&mut first).map_err(bad)?;
        let packed = first == GZIP;
        let whole = io::Cursor::new(first).chain(from);
        match packed {
            true => self.unpack(dir, flate2::read::MultiGzDecoder::new(whole)),
            false => self.unpack(dir, whole),
        }
        .map_err(bad)
    }

    fn unpack(&self, dir: Dir, from: impl Read) -> io::Result<()> {
        let room = self.bound.as_ref();
        let mut left = room.map(|(host, size)| size.saturating_sub(bytes_below(host)));
        let disk = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
        let budget = Budget::for_stream(&disk);
        let target = Target::new(dir, &budget)?;
        let mut archive = tar::Archive::new(Bounded::new(from, &budget));
        let mut entries = archive.entries()?;
        while let Some(entry) = budget.next_entry(&mut entries) {
            let mut entry = entry?;
            if let Some(left) = &mut left {
                *left = left.checked_sub(entry.size()).ok_or(io::ErrorKind::StorageFull)?;
            }
            unpack(&target, &mut entry)?;
            bounds::drain(&mut entry)?;
        }
        Ok(())
    }
}

/// How a file that was packed by gzip begins (RFC 1952, section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The mode bits of Go's `fs.FileMode`.
fn go_mode(found: &Metadata) -> u32 {
    let kind = match () {
        () if found.is_dir() => 1 << 31,
        () if found.is_symlink() => 1 << 27,
        () => 0,
    };
    kind | (found.permissions().mode() & 0o777)
}

fn header(found: &Metadata, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(found.permissions().mode() & 0o7777);
    header.set_uid(u64::from(found.uid()));
    header.set_gid(u64::from(found.gid()));
    header.set_mtime(u64::try_from(found.mtime()).unwrap_or(0));
    header.set_size(0);
    header
}

/// How deep a tree may be: a guest may make one that no stack and no number of descriptors suffices
/// for.
const DEEPEST: u32 = MAX_DEPTH as u32;

fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    dir: &Dir,
    path: &Path,
    (name, depth): (&Path, u32),
) -> io::Result<()> {
    let found = dir.symlink_metadata(path)?;
    if found.is_dir() {
        append_folder(archive, &found, name)?;
        return append_below(archive, &dir.open_dir(path)?, name, depth + 1);
    }
    if found.is_symlink() {
        let to = dir.read_link_contents(path)?;
        return archive.append_link(&mut header(&found, tar::EntryType::Symlink), name, to);
    }
    if !found.is_file() {
        // A socket or a pipe has no content to copy.
        return Ok(());
    }
    let file = dir.open(path)?;
    let length = file.metadata()?.len();
    let mut header = header(&found, tar::EntryType::Regular);
    header.set_size(length);
    // A file that shrinks meanwhile is filled up, and one that grows is cut: the header stands.
    archive.append_data(&mut header, name, file.take(length).chain(io::repeat(0)).take(length))
}

fn append_folder<W: Write>(
    archive: &mut tar::Builder<W>,
    found: &Metadata,
    name: &Path,
) -> io::Result<()> {
    archive.append_data(&mut header(found, tar::EntryType::Directory), name, io::empty())
}

fn append_below<W: Write>(
    archive: &mut tar::Builder<W>,
    dir: &Dir,
    name: &Path,
    depth: u32,
) -> io::Result<()> {
    if depth > DEEPEST {
        return Err(io::Error::other(format!("it has folders more than {DEEPEST} deep")));
    }
    for entry in dir.entries()? {
        let file = entry?.file_name();
        append(archive, dir, Path::new(&file), (&name.join(&file), depth))?;
    }
    Ok(())
}

/// Unpacks one entry; what is neither file, folder nor link is refused.
fn unpack<R: Read>(target: &Target<'_>, entry: &mut tar::Entry<'_, R>) -> io::Result<()> {
    let path = entry.path()?.into_owned();
    let path: PathBuf =
        path.components().filter(|part| !matches!(part, Component::CurDir)).collect();
    let kind = entry.header().entry_type();
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    if kind.is_dir() {
        return target.folder(&path).map(drop);
    }
    target.folder(path.parent().unwrap_or(Path::new("")))?;
    let dir = target.root();
    // What was there gives way, also a link that would lead elsewhere.
    match dir.remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if kind.is_symlink() {
        let to = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?;
        return dir.symlink_contents(to, &path);
    }
    if !kind.is_file() {
        let message = format!("{} is neither a file, a folder nor a link", path.display());
        return Err(io::Error::new(io::ErrorKind::Unsupported, message));
    }
    let mut file = dir.create(&path)?;
    io::copy(entry, &mut file)?;
    let mode = entry.header().mode().unwrap_or(0o644) & 0o777;
    file.set_permissions(cap_std::fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_never_climbs_out() {
        for (path, expected) in
            [("/a/../../b", "/b"), ("..", "/"), ("/a/./b/", "/a/b"), ("x", "/x"), ("", "/")]
        {
            assert_eq!(normal(path), Path::new(expected), "{path}");
        }
    }

    fn archive(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            header.set_size(0);
            // Names that a builder would refuse are what a hostile archive has.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            match kind {
                tar::EntryType::Symlink => header.set_link_name(content).unwrap(),
                _ => header.set_size(content.len() as u64),
            }
            header.set_cksum();
            let data = if kind.is_symlink() { "" } else { content };
            builder.append(&header, data.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn place(folder: &Path) -> Place {
        let dir = Dir::open_ambient_dir(folder, ambient_authority()).unwrap();
        Place {
            dir,
            below: PathBuf::new(),
            access: Access::ReadWrite,
            bound: None,
            shown: "/data".into(),
        }
    }

    #[test]
    fn an_archive_cannot_write_outside_of_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, outside) = (folder.path().join("in"), folder.path().join("out"));
        std::fs::create_dir(&inside).unwrap();
        std::fs::create_dir(&outside).unwrap();
        let link = outside.to_str().unwrap();
        let (file, symlink) = (tar::EntryType::Regular, tar::EntryType::Symlink);
        let hostile = [
            archive(&[("../out/x", file, "bad")]),
            archive(&[("link", symlink, link), ("link/x", file, "bad")]),
            archive(&[("up", symlink, ".."), ("up/out/x", file, "bad")]),
        ];
        for bytes in hostile {
            assert!(place(&inside).write(bytes.as_slice()).is_err());
            assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        }
    }

    #[test]
    fn what_goes_in_comes_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = tar::EntryType::Regular;
        place(folder.path()).write(archive(&[("a/b", file, "text")]).as_slice()).unwrap();
        let mut out = Vec::new();
        place(folder.path()).read(&mut out).unwrap();
        let other = tempfile::tempdir().unwrap();
        place(other.path()).write(out.as_slice()).unwrap();
        let text = std::fs::read_to_string(other.path().join("data/a/b")).unwrap();
        assert_eq!(text, "text");
    }
}
