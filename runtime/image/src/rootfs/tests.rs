//! Layers that are legal, layers that are hostile, and what of them reaches the disk.

use std::io::{self, Write};

use super::*;

use crate::bounds::{self, OverBudget};
use crate::hash;
use crate::manifest::Descriptor;
use crate::media::{self, Packing};

struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    fs::write(dir.path().join("outside"), "untouched").unwrap();
    Fixture { dir, store }
}

impl Fixture {
    fn layer(&self, tar: &[u8], packing: Packing) -> RootfsLayer {
        let packed = match packing {
            Packing::Plain => tar.to_vec(),
            Packing::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
                encoder.write_all(tar).unwrap();
                encoder.finish().unwrap()
            }
            Packing::Zstd => {
                ruzstd::encoding::compress_to_vec(tar, ruzstd::encoding::CompressionLevel::Fastest)
            }
        };
        let blob: Descriptor = self.store.put(media::OCI_LAYER_TAR, &packed).unwrap();
        RootfsLayer { blob, packing, diff_id: Some(hash::sha256(tar)) }
    }

    fn unpack(&self, tars: &[Vec<u8>]) -> Result<PathBuf, UnpackError> {
        let layers: Vec<_> = tars.iter().map(|tar| self.layer(tar, Packing::Plain)).collect();
        unpack(&self.store, &layers)
    }
}

enum Item<'a> {
    File(&'a str, &'a str),
    Dir(&'a str),
    Symlink(&'a str, &'a str),
    Link(&'a str, &'a str),
    Device(&'a str),
}

/// Writes headers by hand, so that names which the tar crate would refuse get into the archive.
fn tar_of(items: &[Item]) -> Vec<u8> {
    let mut out = Vec::new();
    for item in items {
        let (name, kind, link, body) = match item {
            Item::File(name, body) => (name, tar::EntryType::Regular, "", *body),
            Item::Dir(name) => (name, tar::EntryType::Directory, "", ""),
            Item::Symlink(name, to) => (name, tar::EntryType::Symlink, *to, ""),
            Item::Link(name, to) => (name, tar::EntryType::Link, *to, ""),
            Item::Device(name) => (name, tar::EntryType::Char, "", ""),
        };
        for (text, kind) in
            [(*name, tar::EntryType::GNULongName), (link, tar::EntryType::GNULongLink)]
        {
            if text.len() > 100 {
                append(&mut out, kind, ("", ""), &format!("{text}\0"));
            }
        }
        append(&mut out, kind, (name, link), body);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// Appends a header, with as much of the names as it has room for, and its content.
fn append(out: &mut Vec<u8>, kind: tar::EntryType, (name, link): (&str, &str), body: &str) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(body.len() as u64);
    header.set_mode(0o4777);
    let gnu = header.as_gnu_mut().unwrap();
    for (field, text) in [(&mut gnu.name, name), (&mut gnu.linkname, link)] {
        let length = text.len().min(field.len());
        field[..length].copy_from_slice(&text.as_bytes()[..length]);
    }
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(body.as_bytes());
    out.resize(out.len().next_multiple_of(512), 0);
}

#[test]
fn layers_stack_and_whiteouts_take_away() {
    let fixture = fixture();
    let tree = fixture
        .unpack(&[
            tar_of(&[
                Item::Dir("etc/"),
                Item::File("etc/a", "1"),
                Item::File("etc/b", "2"),
                Item::File("data/x", "3"),
                Item::Symlink("link", "etc/b"),
                Item::Link("hard", "etc/b"),
                Item::Device("dev/null"),
            ]),
            tar_of(&[
                Item::File("etc/.wh.a", ""),
                Item::File("data/.wh..wh..opq", ""),
                Item::File("data/y", "4"),
            ]),
        ])
        .unwrap();
    assert!(!tree.join("etc/a").exists());
    assert_eq!(fs::read_to_string(tree.join("link")).unwrap(), "2");
    assert_eq!(fs::read_to_string(tree.join("hard")).unwrap(), "2");
    assert!(!tree.join("data/x").exists() && tree.join("data/y").exists());
    assert!(!tree.join("dev/null").exists());
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(tree.join("etc/b")).unwrap().mode() & 0o7777, 0o755, "no set-id bits");
}

#[test]
fn no_layer_reaches_outside() {
    let hostile: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("climbing", vec![tar_of(&[Item::File("../../outside", "x")])]),
        ("climbing inside", vec![tar_of(&[Item::File("a/../../../outside", "x")])]),
        (
            "through a link",
            vec![tar_of(&[Item::Symlink("d", "../../.."), Item::File("d/outside", "x")])],
        ),
        (
            "through an absolute link",
            vec![tar_of(&[Item::Symlink("d", "/"), Item::File("d/outside", "x")])],
        ),
        (
            "through a link below",
            vec![
                tar_of(&[Item::Symlink("d", "../../..")]),
                tar_of(&[Item::File("d/outside", "x")]),
            ],
        ),
        (
            "over a link to a file",
            vec![
                tar_of(&[Item::Symlink("f", "../../../outside")]),
                tar_of(&[Item::File("f", "x")]),
            ],
        ),
        ("hard link", vec![tar_of(&[Item::Link("h", "../../../outside"), Item::File("h", "x")])]),
        (
            "hard link through a link",
            vec![tar_of(&[
                Item::Symlink("d", "../../.."),
                Item::Link("h", "d/outside"),
                Item::File("h", "x"),
            ])],
        ),
        (
            "whiteout",
            vec![tar_of(&[Item::Symlink("d", "../../.."), Item::File("d/.wh.outside", "")])],
        ),
        ("whiteout of the parent", vec![tar_of(&[Item::File("d/.wh...", "")])]),
        (
            "opaque",
            vec![tar_of(&[Item::Symlink("d", "../../.."), Item::File("d/.wh..wh..opq", "")])],
        ),
    ];
    for (name, tars) in hostile {
        let fixture = fixture();
        let _ = fixture.unpack(&tars);
        let kept = fs::read_to_string(fixture.dir.path().join("outside")).unwrap();
        assert_eq!(kept, "untouched", "{name}");
        let beside = fs::read_dir(fixture.dir.path()).unwrap().count();
        assert_eq!(beside, 2, "{name}: nothing new beside the store");
    }
}

#[test]
fn a_whiteout_hides_lower_layers_and_not_its_own() {
    let fixture = fixture();
    let tree = fixture
        .unpack(&[
            tar_of(&[
                Item::File("d/low", "1"),
                Item::File("d/sub/low", "1"),
                Item::File("gone", "1"),
            ]),
            tar_of(&[
                Item::File("d/sub/own", "2"),
                Item::File("d/own", "2"),
                Item::File("d/.wh..wh..opq", ""),
                Item::File("gone", "2"),
                Item::File(".wh.gone", ""),
            ]),
        ])
        .unwrap();
    assert!(!tree.join("d/low").exists() && !tree.join("d/sub/low").exists());
    assert!(tree.join("d/own").exists() && tree.join("d/sub/own").exists());
    assert_eq!(fs::read_to_string(tree.join("gone")).unwrap(), "2");
}

#[test]
fn a_name_that_is_made_to_fill_memory_is_refused() {
    let fixture = fixture();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(1 << 20);
    header.set_cksum();
    let mut tar = header.as_bytes().to_vec();
    tar.resize(tar.len() + (1 << 20), b'a');
    tar.extend(tar_of(&[Item::File("x", "1")]));
    assert!(fixture.unpack(&[tar]).is_err());
}

#[test]
fn folders_that_links_chain_are_bounded_before_they_are_made() {
    let fixture = fixture();
    let deep = vec!["d"; 100].join("/");
    let (first, second) = (format!("{deep}/x"), format!("s0/{deep}/x"));
    let third = format!("s1/{deep}/x");
    let tar = tar_of(&[
        Item::File(&first, "1"),
        Item::Symlink("s0", &deep),
        Item::File(&second, "2"),
        Item::Symlink("s1", &format!("s0/{deep}")),
        Item::File(&third, "3"),
    ]);
    let refused = fixture.unpack(&[tar]).unwrap_err();
    assert!(
        matches!(refused, UnpackError::OverBudget { source: OverBudget::Depth, .. }),
        "{refused}"
    );
    assert_eq!(fs::read_dir(fixture.store.root().join("ingest")).unwrap().count(), 0);
}

#[test]
fn a_path_alone_is_not_deeper_than_the_bound() {
    let path = vec!["d"; bounds::MAX_DEPTH + 1].join("/");
    let refused = fixture().unpack(&[tar_of(&[Item::File(&format!("{path}/x"), "1")])]);
    assert!(matches!(refused, Err(UnpackError::OverBudget { source: OverBudget::Depth, .. })));
}

#[test]
fn folders_that_paths_imply_count_as_entries() {
    let fixture = fixture();
    let deep = vec!["d"; 40].join("/");
    let mut builder = tar::Builder::new(Vec::new());
    for number in 0..200 {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        builder.append_data(&mut header, format!("{number}/{deep}"), io::empty()).unwrap();
    }
    let layer = fixture.layer(&builder.into_inner().unwrap(), Packing::Gzip);
    let refused = unpack(&fixture.store, &[layer]).unwrap_err();
    assert!(
        matches!(refused, UnpackError::OverBudget { source: OverBudget::Ratio { .. }, .. }),
        "{refused}"
    );
}

#[test]
fn a_draft_deeper_than_any_path_stands_in_nobodys_way() {
    let fixture = fixture();
    let draft = fixture.store.root().join("ingest/rootfs-0123456789abcdef");
    fs::create_dir(&draft).unwrap();
    let mut folder = Dir::open_ambient_dir(&draft, ambient_authority()).unwrap();
    for _ in 0..10_000 {
        folder.create_dir("d").unwrap();
        folder = folder.open_dir("d").unwrap();
    }
    fixture.unpack(&[tar_of(&[Item::File("x", "1")])]).unwrap();
    assert!(!draft.exists());
}

#[test]
fn a_sparse_file_is_refused() {
    let fixture = fixture();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_size(0);
    header.as_gnu_mut().unwrap().name[..4].copy_from_slice(b"zero");
    header.as_gnu_mut().unwrap().realsize[..12].copy_from_slice(b"30000000000\0");
    header.set_cksum();
    let mut tar = header.as_bytes().to_vec();
    tar.resize(tar.len() + 1024, 0);
    assert!(fixture.unpack(&[tar]).is_err());
}

#[test]
fn a_layer_that_is_made_to_fill_the_disk_is_given_up() {
    let fixture = fixture();
    let zeros = vec![0; 64 << 20];
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(zeros.len() as u64);
    builder.append_data(&mut header, "zeros", zeros.as_slice()).unwrap();
    let tar = builder.into_inner().unwrap();
    let layer = fixture.layer(&tar, Packing::Gzip);
    assert!(layer.blob.size < 100_000);
    assert!(unpack(&fixture.store, &[layer]).is_err());
    assert_eq!(fs::read_dir(fixture.store.root().join("ingest")).unwrap().count(), 0);
}

#[test]
fn every_packing_gives_the_same_tree() {
    let tar = tar_of(&[Item::File("a", &"text ".repeat(10_000))]);
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let fixture = fixture();
        let tree = unpack(&fixture.store, &[fixture.layer(&tar, packing)]).unwrap();
        assert_eq!(fs::read_to_string(tree.join("a")).unwrap().len(), 50_000, "{packing:?}");
    }
}

#[test]
fn a_layer_that_is_not_what_the_configuration_says_is_refused() {
    let fixture = fixture();
    let mut layer = fixture.layer(&tar_of(&[Item::File("a", "1")]), Packing::Gzip);
    layer.diff_id = Some(hash::sha256(b"something else"));
    assert!(matches!(unpack(&fixture.store, &[layer]), Err(UnpackError::DiffId { .. })));
    assert_eq!(fs::read_dir(fixture.store.root().join("rootfs")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(fixture.store.root().join("ingest")).unwrap().count(), 0);
}

#[test]
fn the_same_layers_are_unpacked_once() {
    let fixture = fixture();
    let tars = [tar_of(&[Item::File("a", "1")])];
    let first = fixture.unpack(&tars).unwrap();
    fs::write(first.join("mark"), "").unwrap();
    assert!(fixture.unpack(&tars).unwrap().join("mark").exists());
}

#[test]
fn a_change_of_an_unpacked_tree_is_found_and_mended() {
    let fixture = fixture();
    let tars = [tar_of(&[Item::File("d/a", "1"), Item::Symlink("l", "d/a")])];
    for damage in [
        |tree: &Path| fs::write(tree.join("d/a"), "2").unwrap(),
        |tree: &Path| fs::remove_file(tree.join("l")).unwrap(),
        |tree: &Path| fs::write(tree.join("new"), "").unwrap(),
    ] {
        let tree = fixture.unpack(&tars).unwrap();
        assert_eq!(fixture.store.check().unwrap(), []);
        damage(&tree);
        let problems = fixture.store.check().unwrap();
        assert_eq!(problems, [crate::Problem::Tree { path: tree.clone() }]);
        fixture.store.repair(&problems).unwrap();
        assert!(!tree.exists());
    }
    assert_eq!(fs::read_to_string(fixture.unpack(&tars).unwrap().join("d/a")).unwrap(), "1");
}

#[test]
fn what_a_killed_process_left_half_unpacked_is_removed() {
    let fixture = fixture();
    let ingest = fixture.store.root().join("ingest");
    fs::create_dir_all(ingest.join("rootfs-1-1/deep")).unwrap();
    fs::create_dir(ingest.join("rootfs-1-2")).unwrap();
    let _busy = lock_tree(&ingest.join("rootfs-1-2")).unwrap();
    fixture.unpack(&[tar_of(&[Item::File("a", "1")])]).unwrap();
    let left: Vec<_> = fs::read_dir(&ingest).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [ingest.join("rootfs-1-2")], "somebody is at work there");
}

#[test]
fn a_tree_in_use_outlives_a_sweep() {
    let fixture = fixture();
    let tree = fixture.unpack(&[tar_of(&[Item::File("a", "1")])]).unwrap();
    let used = File::open(&tree).unwrap();
    used.lock_shared().unwrap();
    fixture.store.sweep().unwrap();
    assert!(tree.join("a").exists());
    assert_eq!(fixture.store.check().unwrap(), [], "nor is it taken for damaged");
    drop(used);
    // The end of any lease is soon enough.
    drop(fixture.store.lease().unwrap());
    assert_eq!(fs::read_dir(tree.parent().unwrap()).unwrap().count(), 0, "nor its remarks");
}

#[test]
fn many_unpack_the_same_layers_at_once() {
    for _ in 0..20 {
        let fixture = fixture();
        let layers = [fixture.layer(&tar_of(&[Item::File("a", "1")]), Packing::Plain)];
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| unpack(&fixture.store, &layers).unwrap());
            }
        });
        assert_eq!(fixture.store.check().unwrap(), []);
    }
}

proptest::proptest! {
    /// Statement 2.2: layers form a chain without a cycle; order and content decide its name.
    #[test]
    fn statement_2_2_a_chain_of_layers_is_acyclic(seeds in proptest::collection::vec(0u8..4, 1..6)) {
        let layer = |seed: &u8| RootfsLayer {
            blob: Descriptor::new(media::OCI_LAYER_TAR, hash::sha256(b"packed"), 1),
            packing: Packing::Plain,
            diff_id: Some(hash::sha256(&[*seed])),
        };
        let layers: Vec<RootfsLayer> = seeds.iter().map(layer).collect();
        let chain: Vec<Digest> = (1..=layers.len()).map(|upto| chain_id(&layers[..upto])).collect();
        let distinct: std::collections::HashSet<_> = chain.iter().collect();
        proptest::prop_assert_eq!(distinct.len(), chain.len(), "no layer is its own ancestor");
    }
}
