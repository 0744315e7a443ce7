//! Keeps compiled programs on disk, and vouches for them.
//!
//! Compiled code is native code, so what is loaded must be what this host compiled: every file
//! has a keyed hash beside it, under a key that only this host has. A file is never changed in
//! place, because it is mapped into running processes. Nothing that comes out of an image is ever
//! taken for compiled code.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mote_spec::Digest;

use crate::error::EngineError;
use crate::profile::{Checks, Profile};
use crate::wanted::Wanted;

/// How often the turn at a program is asked for.
const TURN_INTERVAL: Duration = Duration::from_millis(20);
/// How long a compilation that ran out of time is not tried again.
const TIMED_OUT_FOR: Duration = Duration::from_secs(10 * 60);

/// The code cache of a host.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
    key: [u8; 32],
}

/// Compiled code that this host made. There is no other way to get one than the cache and the
/// compiler of this crate.
#[derive(Debug)]
pub struct Trusted {
    pub(crate) file: File,
}

impl Trusted {
    /// A path that leads to the file that was verified, whatever happens to its name.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}

/// What identifies compiled code: the program, and all that shapes the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeKey(String);

impl CodeKey {
    /// The key for a program under a profile on this machine.
    pub fn new(program: &Digest, profile: Profile, checks: Checks) -> CodeKey {
        let mut hasher = blake3::Hasher::new();
        for part in [
            env!("CARGO_PKG_VERSION"),
            ENGINE_VERSION,
            std::env::consts::ARCH,
            std::env::consts::OS,
            &cpu_features(),
            profile.code_name(),
            &checks.to_string(),
        ] {
            hasher.update(part.as_bytes()).update(b"\0");
        }
        CodeKey(format!("{}-{}", program.hex(), &hasher.finalize().to_hex()[..16]))
    }
}

/// The engine's exact version; wasmtime itself compares only the major one.
pub const ENGINE_VERSION: &str = "48.0.8";

/// The features of this processor that compiled code may use.
fn cpu_features() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! present {
            ($($name:tt),*) => {
                [$((std::arch::is_x86_feature_detected!($name), $name)),*]
            };
        }
        let all = present!(
            "sse3",
            "ssse3",
            "sse4.1",
            "sse4.2",
            "popcnt",
            "avx",
            "avx2",
            "fma",
            "bmi1",
            "bmi2",
            "lzcnt",
            "avx512f",
            "avx512dq",
            "avx512vl",
            "avx512vbmi",
            "avx512bitalg",
            "cmpxchg16b"
        );
        all.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect::<Vec<_>>().join(",")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        fs::read_to_string("/proc/cpuinfo")
            .unwrap_or_default()
            .lines()
            .find(|line| {
                line.to_ascii_lowercase().starts_with("features") || line.starts_with("isa")
            })
            .unwrap_or_default()
            .to_owned()
    }
}

impl Cache {
    /// Opens the cache in a folder of its own, and makes folder and key if they are not there.
    ///
    /// # Errors
    /// Fails if the folder cannot be made or its key cannot be read.
    pub fn open(folder: &Path) -> Result<Cache, EngineError> {
        let failed = |source| EngineError::Cache { path: folder.to_owned(), source };
        check_owner(folder).map_err(failed)?;
        let key = match read_key(folder).map_err(failed)? {
            Some(key) => key,
            None => make_key(folder).map_err(failed)?,
        };
        Ok(Cache { folder: folder.to_owned(), key })
    }

    /// The compiled code for a key, if it is there and is what this host wrote.
    pub fn get(&self, key: &CodeKey) -> Option<Trusted> {
        let file = File::open(self.code_path(key)).ok()?;
        let claimed = fs::read(self.seal_path(key)).ok()?;
        let seal = self.seal(key, &file).ok()?;
        // Comparing hashes of blake3 takes the same time wherever they differ.
        let claimed: [u8; 32] = claimed.try_into().ok()?;
        (seal == blake3::Hash::from(claimed)).then_some(Trusted { file })
    }

    /// Waits for whoever compiles the same program, in whatever process, and takes the turn; no longer than somebody
    /// wants it.
    pub(crate) fn turn(&self, key: &CodeKey, wanted: &Wanted) -> Result<File, EngineError> {
        let path = self.folder.join(format!(".{}.lock", key.0));
        let failed = |source| EngineError::Cache { path: path.clone(), source };
        let options =
            || File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = options().map_err(failed)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if wanted.is_wanted() => {
                    std::thread::sleep(TURN_INTERVAL)
                }
                Err(TryLockError::WouldBlock) => return Err(EngineError::Unwanted),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    }

    /// The time limit that a compilation of this program did not keep, for a while after it.
    pub(crate) fn timed_out(&self, key: &CodeKey) -> Option<Duration> {
        let path = self.timed_out_path(key);
        let age = fs::metadata(&path).and_then(|found| found.modified()).ok()?.elapsed();
        let limit = fs::read_to_string(&path).ok()?.parse().ok().map(Duration::from_millis);
        limit.filter(|_| age.is_ok_and(|age| age < TIMED_OUT_FOR))
    }

    /// Remembers that a compilation did not keep its time limit.
    pub(crate) fn note_timed_out(&self, key: &CodeKey, limit: Duration) {
        // The note only saves time: without it the next compilation is tried.
        let _ = write_small(&self.timed_out_path(key), limit.as_millis().to_string().as_bytes());
    }

    fn timed_out_path(&self, key: &CodeKey) -> PathBuf {
        self.folder.join(format!(".{}.late", key.0))
    }

    /// Writes what the compiler made, durable before it has its name.
    pub(crate) fn put(
        &self,
        key: &CodeKey,
        write: impl FnOnce(&File) -> Result<(), EngineError>,
    ) -> Result<Trusted, EngineError> {
        let draft = self.folder.join(format!(".{}.{}", key.0, draft_number()));
        let failed = |source| EngineError::Cache { path: draft.clone(), source };
        let _ = fs::remove_file(&draft);
        let options =
            || File::options().read(true).write(true).create_new(true).mode(0o600).open(&draft);
        let file = options().map_err(failed)?;
        let sealed = write(&file).and_then(|()| {
            let commit = || {
                file.sync_data()?;
                let seal = self.seal(key, &file)?;
                write_small(&self.seal_path(key), seal.as_bytes())?;
                fs::rename(&draft, self.code_path(key))?;
                File::open(&self.folder)?.sync_all()
            };
            commit().map_err(failed)
        });
        if sealed.is_err() {
            let _ = fs::remove_file(&draft);
        }
        sealed.map(|()| Trusted { file })
    }

    /// Removes the code of programs that `keep` does not name.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) -> Result<u64, EngineError> {
        let failed = |source| EngineError::Cache { path: self.folder.clone(), source };
        let mut freed = 0;
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // Any other name that starts with a dot is a draft of somebody who is compiling.
            let about = name
                .strip_prefix('.')
                .and_then(|name| name.strip_suffix(".lock").or_else(|| name.strip_suffix(".late")));
            let is_draft = about.is_none() && name.starts_with('.');
            let name = about.unwrap_or(&name);
            let Some((program, _)) = name.split_once('-').filter(|_| !is_draft) else { continue };
            if !keep(program) {
                freed += entry.metadata().map_or(0, |found| found.len());
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        Ok(freed)
    }

    /// How many bytes the compiled programs take.
    pub fn usage(&self) -> u64 {
        let Ok(entries) = fs::read_dir(&self.folder) else { return 0 };
        entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|found| found.len()).sum()
    }

    fn code_path(&self, key: &CodeKey) -> PathBuf {
        self.folder.join(format!("{}.cwasm", key.0))
    }

    fn seal_path(&self, key: &CodeKey) -> PathBuf {
        self.folder.join(format!("{}.seal", key.0))
    }

    /// The keyed hash of a file under a name; the name keeps one program's code from being put in
    /// another's place.
    fn seal(&self, key: &CodeKey, file: &File) -> io::Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(key.0.as_bytes()).update(b"\0");
        hasher.update_mmap(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        Ok(hasher.finalize())
    }
}

/// A name for a draft that no other thread and no other process has.
fn draft_number() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Refuses a folder that somebody else could have filled: their key would vouch for their code.
fn check_owner(folder: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(folder) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let ours = found.uid() == rustix::process::geteuid().as_raw();
    if found.is_dir() && ours && found.mode() & 0o022 == 0 {
        return Ok(());
    }
    let why = "it is not a folder that only this user may write to";
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

fn read_key(folder: &Path) -> io::Result<Option<[u8; 32]>> {
    match fs::read(folder.join("host.key")) {
        // A damaged key is as good as none: what it vouched for is compiled again.
        Ok(bytes) => Ok(bytes.try_into().ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the key once, whoever comes first; everybody then reads the same.
fn make_key(folder: &Path) -> io::Result<[u8; 32]> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut key = [0; 32];
    rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty())?;
    let draft = folder.join(format!(".key.{}", draft_number()));
    write_small(&draft, &key)?;
    let target = folder.join("host.key");
    if target.exists() && read_key(folder)?.is_none() {
        fs::remove_file(&target)?;
    }
    // A link fails where a rename would replace the key of somebody who was quicker.
    let linked = fs::hard_link(&draft, &target);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => read_key(folder)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)),
    }
}

fn write_small(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension(format!("new{}", draft_number()));
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(fill: &str) -> CodeKey {
        let digest = format!("sha256:{}", fill.repeat(32)).parse().unwrap();
        CodeKey::new(&digest, Profile::Server, Checks::Ticks)
    }

    fn put(cache: &Cache, key: &CodeKey, bytes: &[u8]) {
        let write = |mut file: &File| {
            file.write_all(bytes).unwrap();
            Ok(())
        };
        cache.put(key, write).unwrap();
    }

    #[test]
    fn code_that_this_host_did_not_write_is_not_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&folder.path().join("c")).unwrap();
        put(&cache, &key("aa"), b"code");
        assert!(cache.get(&key("aa")).is_some());
        assert!(cache.get(&key("bb")).is_none());

        // Another program's code in its place.
        put(&cache, &key("bb"), b"other");
        fs::copy(cache.code_path(&key("bb")), cache.code_path(&key("aa"))).unwrap();
        fs::copy(cache.seal_path(&key("bb")), cache.seal_path(&key("aa"))).unwrap();
        assert!(cache.get(&key("aa")).is_none(), "swapped");

        // A changed byte, a missing seal, another host's cache.
        put(&cache, &key("aa"), b"code");
        fs::write(cache.code_path(&key("aa")), b"c0de").unwrap();
        assert!(cache.get(&key("aa")).is_none(), "changed");
        fs::remove_file(cache.seal_path(&key("bb"))).unwrap();
        assert!(cache.get(&key("bb")).is_none(), "unsealed");
        let other = Cache::open(&folder.path().join("d")).unwrap();
        put(&cache, &key("aa"), b"code");
        for path in [Cache::code_path, Cache::seal_path] {
            fs::copy(path(&cache, &key("aa")), path(&other, &key("aa"))).unwrap();
        }
        assert!(other.get(&key("aa")).is_none(), "another host's");
    }

    #[test]
    fn a_damaged_key_is_made_anew_and_vouches_for_nothing_older() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c");
        put(&Cache::open(&path).unwrap(), &key("aa"), b"code");
        fs::write(path.join("host.key"), b"zz").unwrap();
        let cache = Cache::open(&path).unwrap();
        assert!(cache.get(&key("aa")).is_none());
        put(&cache, &key("aa"), b"code");
        assert!(Cache::open(&path).unwrap().get(&key("aa")).is_some());
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c");
        Cache::open(&path).unwrap();
        Cache::open(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Cache::open(&path).is_err());
    }

    #[test]
    fn a_profile_that_changes_the_code_changes_the_key() {
        let digest: Digest = format!("sha256:{}", "aa".repeat(32)).parse().unwrap();
        let of = |profile, checks| CodeKey::new(&digest, profile, checks);
        assert_ne!(of(Profile::Server, Checks::Ticks), of(Profile::Server, Checks::TicksAndFuel));
        assert_ne!(of(Profile::Server, Checks::Ticks), of(Profile::Micro, Checks::Ticks));
        assert_eq!(
            of(Profile::Server, Checks::Ticks),
            of(Profile::Gateway { slots: 9 }, Checks::Ticks),
            "allocation does not change code"
        );
    }
}
