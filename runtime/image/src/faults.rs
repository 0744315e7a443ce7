//! A disk that fails, and one that loses power: every operation of every scenario, at every step.
//!
//! After each fault the store is opened anew on a sound disk. It has to check clean, to hold what was
//! acknowledged, and to take the same work again.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use mote_spec::ImageRef;

use crate::disk::{Disk, DiskFile, RealDisk};
use crate::error::StoreError;
use crate::layout::RootfsLayer;
use crate::media::Packing;
use crate::pack::{self, Description, Kind};
use crate::rootfs;
use crate::store::Store;

/// What happens at the chosen operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It fails once, as on a bad or full disk.
    Error,
    /// Nothing works any more, and what was not synced is lost in one of four ways.
    PowerCut { renames: Kept, tails: Tail },
}

/// Whether names survive that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Yes,
    No,
}

/// What is found where content was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    Missing,
    Zeros,
}

const FAULTS: [Fault; 5] = [
    Fault::Error,
    Fault::PowerCut { renames: Kept::Yes, tails: Tail::Missing },
    Fault::PowerCut { renames: Kept::Yes, tails: Tail::Zeros },
    Fault::PowerCut { renames: Kept::No, tails: Tail::Missing },
    Fault::PowerCut { renames: Kept::No, tails: Tail::Zeros },
];

#[derive(Default)]
struct State {
    operations: usize,
    /// How much of each file is durable.
    synced: HashMap<PathBuf, u64>,
    /// Names that are not durable: from, to, and what the name led to before.
    renames: Vec<(PathBuf, PathBuf, Option<Vec<u8>>)>,
}

struct Faulty {
    at: usize,
    fault: Fault,
    state: Arc<Mutex<State>>,
}

struct FaultyFile {
    inner: Box<dyn DiskFile>,
    path: PathBuf,
    at: usize,
    fault: Fault,
    state: Arc<Mutex<State>>,
}

/// Counts an operation, and fails it if its turn has come.
fn step(state: &Mutex<State>, at: usize, fault: Fault) -> io::Result<()> {
    let mut state = state.lock().unwrap();
    let now = state.operations;
    state.operations += 1;
    let fails = match fault {
        Fault::Error => now == at,
        Fault::PowerCut { .. } => now >= at,
    };
    if fails { Err(io::Error::from_raw_os_error(libc::ENOSPC)) } else { Ok(()) }
}

impl Faulty {
    fn step(&self) -> io::Result<()> {
        step(&self.state, self.at, self.fault)
    }

    /// Makes the disk look as it would after the power came back.
    fn lose(&self) {
        let Fault::PowerCut { renames, tails } = self.fault else { return };
        let mut state = self.state.lock().unwrap();
        let unsynced = std::mem::take(&mut state.renames);
        if renames == Kept::No {
            for (from, to, before) in unsynced.into_iter().rev() {
                if to.exists() {
                    fs::rename(&to, &from).unwrap();
                }
                if let Some(before) = before {
                    fs::write(&to, before).unwrap();
                }
                if let Some(length) = state.synced.remove(&to) {
                    state.synced.insert(from, length);
                }
            }
        }
        for (path, synced) in &state.synced {
            let Ok(file) = File::options().write(true).open(path) else { continue };
            let length = file.metadata().unwrap().len();
            if *synced < length {
                file.set_len(*synced).unwrap();
                if tails == Tail::Zeros {
                    file.set_len(length).unwrap();
                }
            }
        }
    }
}

impl Disk for Faulty {
    fn append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.step()?;
        let there = fs::metadata(path).map_or(0, |found| found.len());
        self.state.lock().unwrap().synced.entry(path.to_owned()).or_insert(there);
        Ok(Box::new(FaultyFile {
            inner: RealDisk.append(path)?,
            path: path.to_owned(),
            at: self.at,
            fault: self.fault,
            state: Arc::clone(&self.state),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        let before = fs::read(to).ok();
        RealDisk.rename(from, to)?;
        let mut state = self.state.lock().unwrap();
        state.renames.push((from.to_owned(), to.to_owned(), before));
        if let Some(length) = state.synced.remove(from) {
            state.synced.insert(to.to_owned(), length);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        self.state.lock().unwrap().synced.remove(path);
        RealDisk.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        self.state.lock().unwrap().renames.retain(|(_, to, _)| to.parent() != Some(path));
        Ok(())
    }

    fn sync_tree(&self, _path: &Path) -> io::Result<()> {
        self.step()
    }
}

impl Write for FaultyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = step(&self.state, self.at, self.fault) {
            // A write that fails may have written a part.
            let _ = self.inner.write(&bytes[..bytes.len() / 2]);
            return Err(error);
        }
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl DiskFile for FaultyFile {
    fn hurry(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        step(&self.state, self.at, self.fault)?;
        let length = fs::metadata(&self.path)?.len();
        self.state.lock().unwrap().synced.insert(self.path.clone(), length);
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        step(&self.state, self.at, self.fault)?;
        self.state.lock().unwrap().synced.insert(self.path.clone(), 0);
        self.inner.clear()
    }
}

fn name(text: &str) -> ImageRef {
    text.parse().unwrap()
}

fn pack_image(store: &Store, image: &str, content: &[u8]) -> Result<(), StoreError> {
    let about = Description {
        kind: Kind::Module,
        created: "2026-01-01T00:00:00Z".into(),
        annotations: Default::default(),
    };
    let wasm = [b"\0asm\x01\0\0\0", content].concat();
    pack::pack(store, &name(image), &wasm, &about).map(drop)
}

/// Runs a scenario with a fault at every one of its operations, each time on a copy of `prepared`.
fn at_every_step(
    prepare: impl Fn(&Store),
    scenario: impl Fn(&Store) -> bool,
    holds: impl Fn(&Store, bool),
) {
    for fault in FAULTS {
        for at in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path().join("images");
            prepare(&Store::open(&root).unwrap());
            let disk = Arc::new(Faulty { at, fault, state: Arc::default() });
            let acknowledged =
                scenario(&Store::open_on(&root, Arc::clone(&disk) as Arc<dyn Disk>).unwrap());
            let finished = disk.state.lock().unwrap().operations <= at;
            disk.lose();

            let store = Store::open(&root).unwrap();
            assert_eq!(store.check().unwrap(), [], "{fault:?} at {at}");
            holds(&store, acknowledged);
            assert!(scenario(&store), "{fault:?} at {at}: the same again on a sound disk");
            assert_eq!(store.check().unwrap(), [], "{fault:?} at {at}, afterwards");
            holds(&store, true);
            if finished {
                assert!(acknowledged, "without a fault all goes well");
                break;
            }
        }
    }
}

fn content_of(store: &Store, image: &str) -> Option<Vec<u8>> {
    let stored = store.find(&name(image)).unwrap()?;
    let lease = store.lease().unwrap();
    let artifact = crate::artifact::open(store, &lease, &stored, Default::default()).unwrap();
    Some(artifact.code.read().unwrap()[8..].to_vec())
}

#[test]
fn a_new_image_is_whole_or_not_there() {
    at_every_step(
        |_| {},
        |store| pack_image(store, "a:1", b"new").is_ok(),
        |store, acknowledged| match content_of(store, "a:1") {
            Some(content) => assert_eq!(content, b"new"),
            None => assert!(!acknowledged, "an acknowledged image is lost"),
        },
    );
}

#[test]
fn a_name_that_moves_leads_to_the_old_or_the_new_image() {
    at_every_step(
        |store| pack_image(store, "a:1", b"old").unwrap(),
        |store| pack_image(store, "a:1", b"new").is_ok(),
        |store, acknowledged| {
            let content = content_of(store, "a:1").expect("the name is never lost");
            assert!(content == b"new" || (content == b"old" && !acknowledged));
        },
    );
}

#[test]
fn removing_one_image_never_harms_another() {
    at_every_step(
        |store| {
            pack_image(store, "a:1", b"doomed").unwrap();
            pack_image(store, "b:1", b"kept").unwrap();
        },
        |store| {
            let doomed = store.find(&name("a:1")).unwrap();
            let forgotten = doomed.map_or(Ok(()), |image| store.forget(&image));
            forgotten.and_then(|()| store.sweep()).is_ok()
        },
        |store, acknowledged| {
            assert_eq!(content_of(store, "b:1").as_deref(), Some(&b"kept"[..]));
            assert!(!acknowledged || content_of(store, "a:1").is_none());
        },
    );
}

#[test]
fn a_tree_that_is_removed_is_whole_or_not_there() {
    let mut tar = tar::Builder::new(Vec::new());
    for name in ["a", "b", "c"] {
        let mut header = tar::Header::new_gnu();
        header.set_size(4);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, &b"text"[..]).unwrap();
    }
    let tar = tar.into_inner().unwrap();
    let unpack = |store: &Store| {
        let blob = store.put(crate::media::OCI_LAYER_TAR, &tar).unwrap();
        rootfs::unpack(store, &[RootfsLayer { blob, packing: Packing::Plain, diff_id: None }])
            .unwrap()
    };
    at_every_step(
        |store| drop(unpack(store)),
        |store| store.sweep().is_ok(),
        |store, acknowledged| {
            let rootfs = store.root().join("rootfs");
            let trees =
                fs::read_dir(&rootfs).unwrap().flatten().filter(|tree| tree.path().is_dir());
            for tree in trees {
                assert!(!acknowledged);
                assert_eq!(fs::read_dir(tree.path()).unwrap().count(), 3, "never a half");
            }
        },
    );
}

#[test]
fn a_sweep_takes_nothing_while_an_image_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    pack_image(&store, "a:1", b"kept").unwrap();
    pack_image(&store, "b:1", b"doomed").unwrap();
    let (kept, doomed) =
        (store.find(&name("a:1")).unwrap().unwrap(), store.find(&name("b:1")).unwrap().unwrap());
    let (manifest, _) = crate::documents::read(&store, &kept.manifest, "").unwrap();
    let config = store.blob_path(&manifest.config.digest);
    let sound = fs::read(&config).unwrap();
    fs::write(&config, b"{").unwrap();
    store.forget(&doomed).unwrap();
    assert_eq!(store.sweep().unwrap().files, 0);
    fs::write(&config, sound).unwrap();
    assert_eq!(store.sweep().unwrap().files, 3);
    assert_eq!(content_of(&store, "a:1").unwrap(), b"kept");
}

#[test]
fn an_index_that_is_mended_keeps_every_image() {
    let mend = |store: &Store| store.repair(&store.check().unwrap()).is_ok();
    for fault in FAULTS {
        for at in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let sound = Store::open(folder.path()).unwrap();
            pack_image(&sound, "a:1", b"kept").unwrap();
            fs::write(sound.index_path(), "{").unwrap();
            let disk = Arc::new(Faulty { at, fault, state: Arc::default() });
            mend(&Store::open_on(folder.path(), Arc::clone(&disk) as Arc<dyn Disk>).unwrap());
            let finished = disk.state.lock().unwrap().operations <= at;
            disk.lose();

            assert!(mend(&sound), "{fault:?} at {at}");
            assert_eq!(sound.check().unwrap(), [], "{fault:?} at {at}");
            let images = sound.images().unwrap();
            assert_eq!(images.len(), 1, "{fault:?} at {at}");
            let lease = sound.lease().unwrap();
            let opened =
                crate::artifact::open(&sound, &lease, &images[0], Default::default()).unwrap();
            assert_eq!(opened.code.read().unwrap()[8..], *b"kept");
            if finished {
                break;
            }
        }
    }
}

#[test]
fn a_sweep_that_somebody_stood_in_the_way_of_happens_later() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    pack_image(&store, "a:1", b"doomed").unwrap();
    let image = store.find(&name("a:1")).unwrap().unwrap();
    let (first, second) = (store.lease().unwrap(), store.lease().unwrap());
    store.forget(&image).unwrap();
    assert_eq!(store.sweep().unwrap().files, 0);
    drop(first);
    assert!(store.has(&image.manifest), "somebody may be opening it");
    drop(second);
    assert!(!store.has(&image.manifest));
}

#[test]
fn an_unpacked_tree_is_whole_or_not_there() {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    header.set_mode(0o644);
    tar.append_data(&mut header, "file", &b"text"[..]).unwrap();
    let tar = tar.into_inner().unwrap();
    let layer = move |store: &Store| -> Result<RootfsLayer, StoreError> {
        let blob = store.put(crate::media::OCI_LAYER_TAR, &tar)?;
        Ok(RootfsLayer { blob, packing: Packing::Plain, diff_id: None })
    };
    at_every_step(
        |_| {},
        |store| layer(store).is_ok_and(|layer| rootfs::unpack(store, &[layer]).is_ok()),
        |store, acknowledged| {
            let trees: Vec<_> =
                fs::read_dir(store.root().join("rootfs")).unwrap().flatten().collect();
            let trees: Vec<_> = trees.iter().filter(|entry| entry.path().is_dir()).collect();
            assert!(!acknowledged || !trees.is_empty());
            for tree in trees {
                assert_eq!(fs::read_to_string(tree.path().join("file")).unwrap(), "text");
            }
        },
    );
}

#[test]
fn what_an_interrupted_download_left_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let blob = crate::manifest::Descriptor::new("x", crate::hash::sha256(b"0123456789"), 10);
    let mut ingest = store.ingest(&blob).unwrap().unwrap();
    ingest.write(b"01234").unwrap();
    drop(ingest);
    // Resumed, it is whole.
    let mut ingest = store.ingest(&blob).unwrap().unwrap();
    assert_eq!(ingest.written(), 5);
    ingest.write(b"56789").unwrap();
    ingest.finish().unwrap();
    fs::remove_file(store.blob_path(&blob.digest)).unwrap();
    // With zeros in it, it is noticed, and the next attempt starts afresh.
    fs::write(store.ingest_path(&blob.digest, ""), [0; 5]).unwrap();
    let mut ingest = store.ingest(&blob).unwrap().unwrap();
    ingest.write(b"56789").unwrap();
    assert!(matches!(ingest.finish(), Err(StoreError::Mismatch { .. })));
    assert_eq!(store.ingest(&blob).unwrap().unwrap().written(), 0);
}

#[test]
fn a_wrong_claim_about_a_blob_does_not_cost_the_image_that_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mut blob = store.put("application/wasm", b"0123456789").unwrap();
    blob.size += 1;
    assert!(matches!(store.ingest_sound(&blob), Err(StoreError::Size { expected: 11, found: 10 })));
    assert_eq!(store.read_small(&blob.digest).unwrap(), b"0123456789");
}
