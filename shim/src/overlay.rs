//! Mounts overlays of many layers. Options of mount(2) take no more than a page, which the paths of some
//! fifty layers fill: then they are said from the folder that all layers are in.

use std::io;
use std::path::{Path, PathBuf};

use rustix::thread::UnshareFlags;

/// What fits into a page with its end, the smallest that there is.
const MOST: usize = 4095;
const LOWER: &str = "lowerdir=";

/// A folder, and options that are said from there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Compact {
    folder: PathBuf,
    pub(crate) data: String,
}

impl Compact {
    /// Shortens the options of an overlay that are too long. None if they are not, or name no layers.
    ///
    /// # Errors
    /// Fails if they remain too long.
    pub(crate) fn of(data: &str) -> io::Result<Option<Compact>> {
        if data.len() <= MOST {
            return Ok(None);
        }
        let Some(lower) = data.split(',').find_map(|option| option.strip_prefix(LOWER)) else {
            return Ok(None);
        };
        let layers: Vec<&Path> = lower.split(':').map(Path::new).collect();
        let folder = layers.iter().skip(1).fold(layers[0], |folder, layer| {
            let mut above = folder.ancestors();
            above.find(|above| layer.starts_with(above)).unwrap_or(Path::new("/"))
        });
        let inside = |layer: &&Path| match layer.strip_prefix(folder) {
            Ok(inside) if inside.as_os_str().is_empty() => ".".to_owned(),
            Ok(inside) => inside.display().to_string(),
            Err(_) => layer.display().to_string(),
        };
        let layers: Vec<String> = layers.iter().map(inside).collect();
        let options = data.split(',').map(|option| match option.starts_with(LOWER) {
            true => format!("{LOWER}{}", layers.join(":")),
            false => option.to_owned(),
        });
        let data = options.collect::<Vec<_>>().join(",");
        if data.len() > MOST {
            return Err(io::Error::other("it has more layers than the kernel can be told of"));
        }
        Ok(Some(Compact { folder: folder.to_owned(), data }))
    }

    /// Does something in the folder, on a thread that has a working folder of its own.
    pub(crate) fn there(&self, work: impl FnOnce() -> io::Result<()> + Send) -> io::Result<()> {
        let in_folder = || -> io::Result<()> {
            // SAFETY: no file descriptor is unshared, only the working folder.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }?;
            rustix::process::chdir(&self.folder)?;
            work()
        };
        let ended = std::thread::scope(|scope| scope.spawn(in_folder).join());
        ended.unwrap_or_else(|_| Err(io::Error::other("its thread has ended")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(count: usize, folder: &str) -> String {
        let layers: Vec<String> = (0..count).map(|one| format!("{folder}/{one}/fs")).collect();
        format!("index=off,lowerdir={},upperdir=/u,workdir=/w", layers.join(":"))
    }

    #[test]
    fn many_layers_are_said_from_where_they_are() {
        let folder = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots";
        assert_eq!(Compact::of(&options(10, folder)).unwrap(), None);
        let compact = Compact::of(&options(100, folder)).unwrap().unwrap();
        assert_eq!(compact.folder, Path::new(folder));
        assert!(compact.data.starts_with("index=off,lowerdir=0/fs:1/fs:"), "{}", compact.data);
        assert!(compact.data.ends_with(":99/fs,upperdir=/u,workdir=/w"));
        assert!(Compact::of(&options(1000, folder)).is_err(), "even so they are too many");
        assert_eq!(Compact::of(&"x".repeat(5000)).unwrap(), None);
    }

    #[test]
    fn nobody_else_changes_folder() {
        let before = std::env::current_dir().unwrap();
        let compact = Compact { folder: "/".into(), data: String::new() };
        let there = || {
            assert_eq!(std::env::current_dir()?, Path::new("/"));
            Ok(())
        };
        compact.there(there).unwrap();
        assert_eq!(std::env::current_dir().unwrap(), before);
        let nowhere = Compact { folder: "/nowhere".into(), data: String::new() };
        assert!(nowhere.there(|| Ok(())).is_err());
    }
}
