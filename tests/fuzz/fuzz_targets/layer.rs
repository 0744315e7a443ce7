//! Any bytes unpack below their folder, or not at all.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mote_image::layout::RootfsLayer;
use mote_image::media::{OCI_LAYER_TAR, Packing};
use mote_image::{Store, rootfs};

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let packing =
        [Packing::Plain, Packing::Plain, Packing::Gzip, Packing::Zstd][usize::from(*kind) % 4];
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let store = Store::open(&folder.path().join("store")).expect("a store");
    let blob = store.put(OCI_LAYER_TAR, bytes).expect("a blob");
    let _ = rootfs::unpack(&store, &[RootfsLayer { blob, packing, diff_id: None }]);
    let beside = std::fs::read_dir(folder.path()).expect("readable").count();
    assert_eq!(beside, 1, "something is beside the store");
});
