//! Guests inside of wasmtime's sandbox: what they reach for, and how much they take.

use super::World;
use crate::harness::{Out, guest};

/// The ways to isolate a guest.
const ISOLATIONS: [&str; 2] = ["shared", "process"];

/// Runs an attack in WebAssembly text.
fn wat(name: &str, flags: &[&str], code: i32, says: &str) {
    let file = format!("{}/../../modules/attack/wat/{name}.wat", env!("CARGO_MANIFEST_DIR"));
    ends(&file, flags, code, says);
}

/// Runs an attack in every isolation, and checks its exit code and what was said of it.
fn ends(file: &str, flags: &[&str], code: i32, says: &str) {
    for isolation in ISOLATIONS {
        let out = World::new().attacked(&[&["--isolation", isolation], flags].concat(), file);
        assert_eq!(out.code, code, "{isolation}: {out:?}");
        assert!(out.stderr.contains(says), "{isolation}: {out:?}");
        assert!(!out.stderr.contains(['\x1b', '\x07']), "{isolation}: {out:?}");
    }
}

/// Runs an attack of these standards in every isolation.
fn held(name: &str, flags: &[&str], standards: &[&str], check: fn(&World, &Out)) {
    for standard in standards {
        for isolation in ISOLATIONS {
            let world = World::new();
            world.links();
            let flags = [&["--isolation", isolation], flags].concat();
            let out =
                world.attacked_and(&flags, &guest(&format!("attack/{name}.{standard}")), check);
            assert_eq!(
                (out.code, out.stdout.as_str()),
                (0, "held\n"),
                "{standard} {isolation}: {out:?}"
            );
        }
    }
}

/// What is in the grant, but for what was there: its bytes, and how many names.
fn taken(world: &World) -> (u64, usize) {
    let names = world.host.left("grant");
    let length = |path: &String| std::fs::symlink_metadata(path).map_or(0, |found| found.len());
    let files = names.iter().filter(|path| !std::path::Path::new(path).is_dir());
    (files.map(length).sum(), names.len())
}

/// Statement 4.1 for storage: not one byte more, and not a name too many.
fn quota_held(world: &World, out: &Out) {
    const LIMIT: u64 = 64 << 10;
    let (bytes, names) = taken(world);
    let before = "a file of the guest's".len() as u64 + 3 * 64;
    assert!(bytes <= LIMIT + before, "{bytes} bytes: {out:?}");
    assert!(names <= 256 + 16 + 8, "{names} names: {out:?}");
}

fn unchanged(world: &World, out: &Out) {
    assert_eq!(world.host.read("grant/own"), "a file of the guest's", "{out:?}");
}

fn nothing(_: &World, _: &Out) {}

macro_rules! wats {
    ($($name:ident: $flags:expr, $code:literal, $says:literal;)+) => {
        const WATS: &[&str] = &[$(stringify!($name)),+];
        mod texts { $(#[test] fn $name() { super::wat(stringify!($name), &$flags, $code, $says) })+ }
    };
}

wats! {
    grow_without_end: ["--memory", "4m"], 0, "";
    grow_many_memories: ["--memory", "4m"], 0, "";
    grow_by_overflowing_table: ["--memory", "4m"], 0, "";
    grow_a_wide_memory: ["--memory", "4m"], 0, "";
    grow_tables: ["--memory", "4m"], 0, "";
    start_too_large: ["--memory", "4m"], 126, "--memory";
    keep_garbage: ["--memory", "4m"], 137, "ran out of memory";
    make_a_huge_array: ["--memory", "4m"], 134, "out of memory";
    recurse_without_end: [], 134, "call stack exhausted";
    recurse_through_a_table: [], 134, "call stack exhausted";
    recurse_as_it_starts: [], 134, "call stack exhausted";
    compute_without_end: ["--timeout", "300ms"], 124, "timed out";
    compute_as_it_starts: ["--timeout", "300ms"], 124, "timed out";
    burn_fuel: ["--fuel", "100000"], 152, "ran out of fuel";
    fill_memory_without_end: ["--timeout", "300ms"], 124, "timed out";
    copy_memory_without_end: ["--timeout", "300ms"], 124, "timed out";
    fill_tables_without_end: ["--timeout", "300ms"], 124, "timed out";
    sleep_without_end: ["--timeout", "300ms"], 124, "timed out";
    wait_for_a_million: ["--timeout", "300ms"], 124, "timed out";
    draw_random_bytes_without_end: ["--timeout", "300ms"], 124, "timed out";
    write_from_outside: [], 134, "out of bounds";
    write_four_billion_pieces: [], 0, "";
    read_arguments_to_outside: [], 134, "out of bounds";
    use_unknown_descriptors: [], 0, "";
    take_a_descriptor_for_another: [], 0, "";
    use_what_it_closed: [], 0, "";
    open_a_path_of_a_gibibyte: [], 0, "";
    signal_its_host: [], 0, "";
    end_with_a_strange_code: [], 239, "";
    print_control_characters: [], 134, "trapped";
    import_what_is_not_there: [], 126, "host::execute";
    call_by_the_wrong_type: [], 134, "indirect call type mismatch";
    call_what_is_null: [], 134, "uninitialized element";
    read_beyond_its_memory: [], 134, "out of bounds memory access";
    write_before_its_memory: [], 134, "out of bounds memory access";
    throw_without_a_catch: [], 134, "trapped";
    throw_without_end: ["--timeout", "300ms"], 124, "timed out";
    fill_output_without_end: ["--timeout", "300ms"], 124, "";
}

macro_rules! files {
    ($($name:ident: $flags:expr, $check:ident;)+) => {
        const FILES: &[&str] = &[$(stringify!($name)),+];
        mod statement_3_1_files {
            $(#[test] fn $name() { super::held(stringify!($name), &$flags, &["p1", "p2"], super::$check) })+
        }
    };
}

/// Errors of programs in C, which end where their memory, their table or the types of their functions do.
macro_rules! c_errors {
    ($($name:ident: $says:literal;)+) => {
        const C_ERRORS: &[&str] = &[$(stringify!($name)),+];
        mod errors_in_c {
            $(#[test] fn $name() {
                super::ends(&super::guest(concat!("attack/", stringify!($name), ".c")), &[], 134, $says)
            })+
        }
    };
}

macro_rules! c_files {
    ($($name:ident: $flags:expr, $check:ident;)+) => {
        const C_FILES: &[&str] = &[$(stringify!($name)),+];
        mod attacks_in_c {
            $(#[test] fn $name() { super::held(stringify!($name), &$flags, &["c"], super::$check) })+
        }
    };
}

macro_rules! networks {
    ($($name:ident),+ $(,)?) => {
        const NETWORKS: &[&str] = &[$(stringify!($name)),+];
        mod statement_3_1_network {
            $(#[test] fn $name() { super::held(stringify!($name), &[], &["p2"], super::nothing) })+
        }
    };
}

files! {
    exceed_by_writing: ["--storage-opt", "size=64k"], quota_held;
    exceed_by_big_writes: ["--storage-opt", "size=64k"], quota_held;
    exceed_by_appending: ["--storage-opt", "size=64k"], quota_held;
    exceed_by_setting_length: ["--storage-opt", "size=64k"], quota_held;
    exceed_by_a_hole: ["--storage-opt", "size=64k"], quota_held;
    exceed_by_a_huge_hole: ["--storage-opt", "size=64k"], quota_held;
    exceed_by_many_files: ["--storage-opt", "size=64k"], quota_held;
    exceed_by_empty_files: ["--storage-opt", "size=64k"], quota_held;
    exceed_by_folders: ["--storage-opt", "size=64k"], quota_held;
    exceed_by_links: ["--storage-opt", "size=64k"], quota_held;
    exceed_by_deleting_what_is_open: ["--storage-opt", "size=64k"], quota_held;
    exceed_by_renaming_over: ["--storage-opt", "size=64k"], quota_held;
    exceed_by_copying: ["--storage-opt", "size=64k"], quota_held;
    exceed_through_two_handles: ["--storage-opt", "size=64k"], quota_held;
    exceed_by_growing_what_is_there: ["--storage-opt", "size=64k"], quota_held;
    exceed_by_moving_between_folders: ["--storage-opt", "size=64k"], quota_held;
    up_by_dots: [], unchanged;
    up_by_many_dots: [], unchanged;
    up_by_dots_within: [], unchanged;
    up_by_absolute_path: [], unchanged;
    up_by_path_in_the_grant: [], unchanged;
    up_by_link_of_the_host: [], unchanged;
    up_by_link_with_slash: [], unchanged;
    up_by_relative_link: [], unchanged;
    up_by_process_link: [], unchanged;
    up_by_listing: [], unchanged;
    up_by_removing: [], unchanged;
    up_by_renaming_out: [], unchanged;
    up_by_renaming_in: [], unchanged;
    up_by_linking: [], unchanged;
    up_by_linking_through_a_link: [], unchanged;
    up_by_making_a_folder: [], unchanged;
    up_by_truncating: [], unchanged;
    read_variables_of_the_host: [], unchanged;
    read_input_of_the_host: [], unchanged;
    change_by_creating: ["--read-only-grant"], unchanged;
    change_by_writing: ["--read-only-grant"], unchanged;
    change_by_appending: ["--read-only-grant"], unchanged;
    change_by_truncating: ["--read-only-grant"], unchanged;
    change_by_removing: ["--read-only-grant"], unchanged;
    change_by_renaming: ["--read-only-grant"], unchanged;
    change_by_linking: ["--read-only-grant"], unchanged;
    change_by_making_a_folder: ["--read-only-grant"], unchanged;
    change_by_setting_length: ["--read-only-grant"], unchanged;
    change_by_setting_times: ["--read-only-grant"], unchanged;
}

c_errors! {
    smash_its_stack: "out of bounds memory access";
    call_an_overwritten_pointer: "undefined element: out of bounds table access";
    call_with_another_signature: "indirect call type mismatch";
    write_to_every_address: "out of bounds memory access";
    recurse_with_large_frames: "out of bounds memory access";
}

c_files! {
    walk_up_from_every_descriptor: [], unchanged;
    look_at_host_files: [], unchanged;
    list_the_parent: [], unchanged;
    exhaust_its_heap: ["--memory", "4m"], unchanged;
    search_its_memory: [], unchanged;
    seek_beyond_its_space: ["--storage-opt", "size=64k"], quota_held;
    write_in_pieces: ["--storage-opt", "size=64k"], quota_held;
}

networks! {
    connect_to_the_machine,
    connect_by_version_six,
    connect_by_mapped_address,
    connect_to_any_address,
    connect_to_metadata,
    connect_by_name,
    listen_unpublished,
    listen_on_every_address,
    send_a_datagram,
    send_to_everybody,
    look_a_name_up,
    look_a_long_name_up,
}

/// Handles are bounded: a guest that goes on is ended.
fn flooded(name: &str, flags: &[&str], standards: &[&str]) {
    for standard in standards {
        for isolation in ISOLATIONS {
            let world = World::new();
            let flags = [&["--isolation", isolation], flags].concat();
            let out =
                world.attacked_and(&flags, &guest(&format!("attack/{name}.{standard}")), nothing);
            if out.stdout == "held\n" {
                // It was not even let begin.
                continue;
            }
            let says = ["no free keys", "handle limit exceeded"];
            assert_eq!(out.code, 134, "{standard} {isolation}: {out:?}");
            assert!(
                says.iter().any(|says| out.stderr.contains(says)),
                "{standard} {isolation}: {out:?}"
            );
        }
    }
}

const FLOODS: &[&str] = &["open_files_without_end", "list_without_end", "keep_lists"];
const SOCKET_FLOODS: &[&str] = &["open_sockets_without_end"];

#[test]
fn open_files_without_end() {
    flooded("open_files_without_end", &[], &["p1", "p2"]);
}

#[test]
fn list_without_end() {
    flooded("list_without_end", &[], &["p1", "p2"]);
}

#[test]
fn keep_lists() {
    flooded("keep_lists", &["--memory", "16m"], &["p1"]);
    // In WASI 0.2 the host reads them, and says when there are too many.
    held("keep_lists", &["--memory", "16m"], &["p2"], nothing);
}

macro_rules! hoards {
    ($($name:ident),+ $(,)?) => {
        const HOARDS: &[&str] = &[$(stringify!($name)),+];
        mod statement_4_1_memory_of_the_host {
            $(#[test] fn $name() { super::flooded(stringify!($name), &["--memory", "16m"], &["p2"]) })+
        }
    };
}

hoards! {
    keep_addresses,
    keep_headers,
    keep_small_headers,
    keep_requests,
    keep_reads,
}

#[test]
fn keep_addresses_by_wasi_0_3() {
    flooded("keep_addresses", &["--memory", "16m"], &["p3"]);
}

#[test]
fn open_sockets_without_end() {
    flooded("open_sockets_without_end", &[], &["p2"]);
}

/// Every attack in the folders is one of these tests.
#[test]
fn every_attack_is_tried() {
    let files = |folder: &str| {
        let folder = format!("{}/../../modules/attack/{folder}", env!("CARGO_MANIFEST_DIR"));
        let entries = std::fs::read_dir(folder).expect("it is there");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let mut names: Vec<String> = paths
            .filter(|path| path.extension().is_some_and(|extension| extension != "h"))
            .map(|path| path.file_stem().expect("a name").display().to_string())
            .collect();
        names.sort();
        names
    };
    let all = [
        ("wat", WATS.to_vec()),
        ("c", [C_ERRORS, C_FILES].concat()),
        ("files/src/bin", [FILES, FLOODS].concat()),
        ("memory/src/bin", HOARDS.to_vec()),
        ("network/src/bin", [NETWORKS, SOCKET_FLOODS].concat()),
    ];
    for (folder, mut tried) in all {
        tried.sort_unstable();
        assert_eq!(files(folder), tried, "{folder}");
    }
}
