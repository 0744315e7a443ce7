//! Hostile images and archives: few bytes that are much work to unpack, to copy, to compile or to remember. Their
//! author is granted nothing, and somebody has only pulled, loaded or started what he made.

use std::io::Write;
use std::time::{Duration, Instant};

use super::{World, to_the_end};
use crate::harness::{Blob, Daemon, Image, Out};

/// How long one may keep anybody; each is refused well before.
const PATIENCE: Duration = Duration::from_secs(30);
/// Memory that mote itself may take for one, beside its program's.
const MEMORY: u64 = 160 << 20;

/// One entry of a layer.
enum Item<'a> {
    File(&'a str, &'a [u8]),
    Folder(&'a str),
    Symlink(&'a str, &'a str),
    Link(&'a str, &'a str),
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(bytes).expect("packed");
    packed.finish().expect("packed")
}

/// A root file system of one layer, with a program beside these.
fn image(items: &[Item]) -> Image {
    let mut layer = tar::Builder::new(Vec::new());
    let program = crate::harness::printing_wasm("it runs");
    for item in [&[Item::File("app.wasm", &program)], items].into_iter().flatten() {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(0);
        let kind = match item {
            Item::File(name, bytes) => {
                header.set_size(bytes.len() as u64);
                layer.append_data(&mut header, name, *bytes).expect("appended");
                continue;
            }
            Item::Folder(name) => {
                header.set_entry_type(tar::EntryType::Directory);
                layer.append_data(&mut header, name, std::io::empty()).expect("appended");
                continue;
            }
            Item::Symlink(..) => tar::EntryType::Symlink,
            Item::Link(..) => tar::EntryType::Link,
        };
        header.set_entry_type(kind);
        if let Item::Symlink(name, to) | Item::Link(name, to) = item {
            layer.append_link(&mut header, name, to).expect("appended");
        }
    }
    let layer = gzip(&layer.into_inner().expect("an archive"));
    let config = r#"{"architecture":"wasm","os":"wasip1","config":{"Entrypoint":["/app.wasm"]}}"#;
    Image {
        config: Blob::new("application/vnd.oci.image.config.v1+json", config),
        layers: vec![Blob::new("application/vnd.oci.image.layer.v1.tar+gzip", layer)],
    }
}

/// Runs a command that meets something hostile, and sees to it that it cost little.
fn cheaply(world: &World, args: &[&str]) -> Out {
    let began = Instant::now();
    let (out, used) = to_the_end(&mut world.host.command(args));
    assert!(began.elapsed() < PATIENCE, "it took {:?}: {out:?}", began.elapsed());
    assert!(used < MEMORY, "it had {} MiB: {out:?}", used >> 20);
    out
}

/// Loads a hostile image and runs it, and then another one; a daemon does the same and goes on.
fn unpacked(items: &[Item], says: Option<&str>) -> World {
    let world = World::new();
    let archive = world.host.file("hostile.tar", image(items).archive("localhost/hostile:1"));
    world.host.cli(["load", "-i", &archive]).success();
    let daemon = Daemon::start(&world.host);
    for command in [["run", "--rm"], ["run", "-d"]] {
        let out = cheaply(&world, &[command[0], command[1], "localhost/hostile:1"]);
        match says {
            Some(says) => assert!(out.code != 0 && out.stderr.contains(says), "{out:?}"),
            None => assert_eq!(out.code, 0, "{out:?}"),
        }
    }
    let other = world.host.file("other.tar", image(&[]).archive("localhost/other:1"));
    world.host.cli(["load", "-i", &other]).success();
    assert_eq!(world.host.cli(["run", "localhost/other:1"]).success().stdout, "it runs\n");
    daemon.docker(["run", "--rm", "localhost/other:1"]).success();
    drop(daemon);
    world.host.cli(["system", "check"]).success();
    let left = world.host.left("root/images/ingest");
    assert!(left.is_empty(), "{left:?}");
    world.unharmed()
}

#[test]
fn links_that_chain_deep_folders() {
    let deep = vec!["d"; 200].join("/");
    let (second, third) = (format!("s0/{deep}"), format!("s1/{deep}"));
    let items = [
        Item::Folder(&deep),
        Item::Symlink("s0", &deep),
        Item::Folder(&second),
        Item::Symlink("s1", &second),
        Item::Folder(&third),
    ];
    unpacked(&items, Some("folders more than 256 deep"));
}

#[test]
fn paths_that_imply_many_folders() {
    let names: Vec<String> = (0..400).map(|n| format!("{n}/{}", "d/".repeat(200))).collect();
    let items: Vec<Item> = names.iter().map(|name| Item::Folder(name)).collect();
    unpacked(&items, Some("200 times its packed size"));
}

#[test]
fn many_links_to_one_file() {
    let content: Vec<u8> = (0..4u32 << 20).map(|n| (n / 4096) as u8).collect();
    let names: Vec<String> = (0..500).map(|n| format!("link-{n}")).collect();
    let links = names.iter().map(|name| Item::Link(name, "file"));
    let items: Vec<Item> = std::iter::once(Item::File("file", &content)).chain(links).collect();
    let world = unpacked(&items, None);
    let tree = world.host.path("root/images/rootfs");
    let used = crate::harness::tool("du", ["-sk", &tree.display().to_string()]);
    let kilobytes: u64 = used.split_whitespace().next().expect("a number").parse().expect("one");
    assert!(kilobytes < 3 * 4096, "{used}");
}

/// Writes an archive that is refused by whatever reads it. It is never whole in this process, whose memory counts
/// for that of the commands that it starts.
fn refused(write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>, says: &str) {
    let world = World::new();
    let archive = world.host.file("hostile.tar", "");
    let file = std::fs::File::create(&archive).expect("made");
    let mut file = std::io::BufWriter::new(file);
    write(&mut file).and_then(|()| file.flush()).expect("written");
    for args in [
        &["load", "-i", &archive][..],
        &["run", &format!("docker-archive:{archive}")],
        &["run", &format!("oci-archive:{archive}")],
    ] {
        let out = cheaply(&world, args);
        assert!(out.code != 0 && out.stderr.contains(says), "{args:?}: {out:?}");
    }
    let daemon = Daemon::start(&world.host);
    let out = daemon.docker(["load", "-i", &archive]);
    assert!(out.code != 0 && out.stderr.contains(says), "{out:?}");
    assert_eq!(daemon.docker(["ps", "-q"]).success().stdout, "", "it goes on");
    drop(daemon);
    assert!(world.host.left("root/images/ingest").is_empty());
    world.unharmed();
}

/// Writes one byte so often.
fn fill(to: &mut dyn Write, byte: u8, length: u64) -> std::io::Result<()> {
    use std::io::Read;
    std::io::copy(&mut std::io::repeat(byte).take(length), to).map(drop)
}

/// A header of an archive, as no tool would write it.
fn record(kind: u8, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path("record").expect("a name");
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

#[test]
fn archives_with_names_that_fill_memory() {
    const LENGTH: u64 = 256 << 20;
    for kind in [b'L', b'K', b'x'] {
        let write = |to: &mut dyn Write| {
            to.write_all(&record(kind, LENGTH))?;
            fill(to, b'a', LENGTH)?;
            to.write_all(&record(b'0', 0))
        };
        refused(write, "longer than any file's");
    }
}

#[test]
fn an_archive_that_packs_better_than_any_program() {
    const LENGTH: u64 = 512 << 20;
    let write = |to: &mut dyn Write| {
        let mut packed = flate2::write::GzEncoder::new(to, flate2::Compression::best());
        packed.write_all(&record(b'0', LENGTH))?;
        fill(&mut packed, 0, LENGTH)?;
        packed.finish().map(drop)
    };
    refused(write, "200 times its packed size");
}

#[test]
fn an_archive_of_very_many_entries() {
    let entry = record(b'0', 0);
    let write = |to: &mut dyn Write| (0..550_000).try_for_each(|_| to.write_all(&entry));
    refused(write, "bytes of memory");
}

/// A program whose one function has a thousand variables, and so many loops around a change of each.
fn loops(variables: u32, depth: usize) -> Vec<u8> {
    let number = |mut value: u32| {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    };
    let sized = |bytes: Vec<u8>| [number(bytes.len() as u32), bytes].concat();
    let section = |id: u8, bytes: Vec<u8>| [vec![id], sized(bytes)].concat();
    // One group of variables of type i32.
    let mut code = [vec![1], number(variables), vec![0x7f]].concat();
    (0..variables).for_each(|n| code.extend([vec![0x41, 1, 0x21], number(n)].concat()));
    code.extend([0x03, 0x40].repeat(depth));
    for n in 0..variables {
        code.extend([vec![0x20], number(n), vec![0x41, 1, 0x6a, 0x21], number(n)].concat());
    }
    code.extend([0x20, 0, 0x0d, 0, 0x0b].repeat(depth));
    code.push(0x0b);
    [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, vec![1, 0x60, 0, 0]),
        section(3, vec![1, 0]),
        section(5, vec![1, 0, 1]),
        section(7, b"\x02\x06memory\x02\0\x06_start\0\0".to_vec()),
        section(10, [vec![1], sized(code)].concat()),
    ]
    .concat()
}

#[test]
fn a_program_that_compiles_for_minutes() {
    let world = World::new();
    let config = world.host.file("config.toml", "[engine]\ncompile_timeout = \"2s\"\n");
    let program = world.host.file("loops.wasm", loops(1_000, 300));
    let run = ["--config", &config, "run", &program];
    let out = world.host.cli(run);
    out.fails(126, &["longer to compile than the limit of 2s", "compile_timeout"]);
    let began = Instant::now();
    world.host.cli(run).fails(126, &["longer to compile"]);
    assert!(began.elapsed() < Duration::from_secs(2), "it is not tried again: {began:?}");
    world.unharmed();
}

/// Whether one of the processes that a process has started, or one of theirs, is a compiler.
fn compiles(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children =
        threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    children.collect::<Vec<_>>().join(" ").split_whitespace().any(|child| {
        let name = std::fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
        name.trim() == "mote-compiler" || compiles(child.parse().expect("a number"))
    })
}

#[test]
fn a_small_program_passes_one_that_compiles_for_minutes() {
    let world = World::new();
    let archive = Image::wasm(loops(1_000, 300)).archive("localhost/loops:1");
    let archive = world.host.file("loops.tar", archive);
    world.host.cli(["load", "-i", &archive]).success();
    let daemon = Daemon::start(&world.host);
    let mut slow = daemon.docker_command(["create", "localhost/loops:1"]);
    let mut slow = slow.stdout(std::process::Stdio::null()).spawn().expect("docker starts");
    // Its turn has come when its compiler is there.
    while !compiles(daemon.pid()) {
        assert!(slow.try_wait().expect("asked").is_none(), "it waits for its program");
    }
    world.host.import("quick:1", &crate::harness::printing("quick"));
    assert_eq!(daemon.docker(["run", "--rm", "quick:1"]).success().stdout, "quick\n");
    assert!(slow.try_wait().expect("asked").is_none(), "the other one compiles still");
    slow.kill().expect("its client goes");
    slow.wait().expect("it is gone");
    drop(daemon);
    world.unharmed();
}

#[test]
fn a_name_that_every_frame_of_a_trap_repeats() {
    let world = World::new();
    let name = "N".repeat(24 << 20);
    let text = format!(
        r#"(module (memory (export "memory") 1) (func ${name} (export "_start") (call ${name})))"#
    );
    let program = world.host.file("names.wasm", wat::parse_str(text).expect("valid text"));
    cheaply(&world, &["run", &program]).fails(126, &["name of 25165824 bytes"]);
    world.unharmed();
}
