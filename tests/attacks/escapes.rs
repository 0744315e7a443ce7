//! Guests that have broken out of wasmtime's sandbox: statement 3.2 of the model. The second wall stands alone.
//!
//! `modules/attack/escape` makes any system call, by a function that only tests have. In a process of its own
//! every attack is stopped; in a process that it shares with its host those are that the host gives up.

use super::World;
use crate::harness::guest;

/// What stops an attack in a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    /// `EACCES`, or `EXDEV` for what would come from elsewhere (landlock(7)).
    Landlock,
    /// `EPERM`, as mote's filters answer.
    Seccomp,
}

fn apart(name: &str, layer: Layer) {
    let out = World::new()
        .attacked(&["--isolation", "process=strict"], &guest(&format!("attack/{name}.p1")));
    let refused: &[&str] = match layer {
        Layer::Landlock => &["refused: EACCES\n", "refused: EXDEV\n"],
        Layer::Seccomp => &["refused: EPERM\n"],
    };
    assert!(refused.contains(&out.stdout.as_str()), "{out:?}");
    assert_eq!(out.code, 0, "{out:?}");
}

fn shared(name: &str) {
    let out =
        World::new().attacked(&["--isolation", "shared"], &guest(&format!("attack/{name}.p1")));
    assert!(out.stdout.starts_with("refused: E"), "{out:?}");
    assert_eq!(out.code, 0, "{out:?}");
}

/// That the attacks fail is not for want of trying: where nothing stands behind the sandbox, they succeed.
#[test]
fn statement_3_2_one_wall_alone_does_not_hold_an_escape() {
    let world = World::new();
    let canary = world.targets().remove(0);
    let out = world.host.cli(["run", &guest("attack/read_canary.p1"), &canary]).success();
    assert_eq!(out.stdout, format!("{}\nescaped: {}\n", super::SECRET, super::SECRET.len()));
}

/// Every attack in the folder is one of these tests.
#[test]
fn every_escape_is_tried() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../modules/attack/escape/src/bin");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .expect("it is there")
        .map(|entry| {
            entry.expect("an entry").path().file_stem().expect("a name").display().to_string()
        })
        .collect();
    files.sort();
    let mut tried: Vec<&str> = TRIED.to_vec();
    tried.sort_unstable();
    assert_eq!(files, tried);
}

macro_rules! escapes {
    ($($name:ident: $layer:ident $($shared:ident)?),+ $(,)?) => {
        const TRIED: &[&str] = &[$(stringify!($name)),+];
        mod statement_3_2_in_a_process_of_its_own {
            $(#[test] fn $name() { super::apart(stringify!($name), super::Layer::$layer) })+
        }
        mod in_its_hosts_process {
            $($(#[test] fn $name() { super::$shared(stringify!($name)) })?)+
        }
    };
}

escapes! {
    read_shadow: Landlock,
    read_canary: Landlock,
    open_with_openat2: Landlock,
    list_root: Landlock,
    read_own_memory_file: Landlock,
    read_environment_of_host: Landlock,
    read_environment_of_init: Landlock,
    read_kernel_messages: Landlock,
    read_kernel_symbols: Landlock,
    write_canary: Landlock,
    append_to_canary: Landlock,
    truncate_by_opening: Landlock,
    truncate_by_path: Seccomp,
    create_beside_canary: Landlock,
    create_unnamed: Landlock,
    make_folder: Landlock,
    unlink_canary: Landlock,
    rename_canary: Landlock,
    link_canary_into_grant: Landlock,
    symlink_out_of_grant: Landlock,
    move_canary_into_grant: Landlock,
    chmod_canary: Seccomp,
    chown_canary: Seccomp,
    set_attribute_of_canary: Seccomp,
    make_device: Seccomp shared,
    make_fifo_in_grant: Seccomp shared,
    change_working_folder: Seccomp,
    change_root: Seccomp shared,
    open_by_handle: Seccomp shared,
    name_to_handle: Seccomp shared,
    watch_files: Seccomp,
    watch_whole_machine: Seccomp shared,
    write_core_pattern: Landlock,
    change_kernel_settings: Landlock,
    leave_cgroup: Landlock,
    lower_oom_score: Landlock,
    read_other_scratch: Landlock,
    read_images: Landlock,
    forge_compiled_code: Landlock,
    read_sealing_key: Landlock,
    read_state: Landlock,
    mount_tmpfs: Seccomp shared,
    unmount: Seccomp shared,
    pivot_root: Seccomp shared,
    open_mount_tree: Seccomp shared,
    open_file_system: Seccomp shared,
    move_mount: Seccomp shared,
    change_mount_flags: Seccomp shared,
    run_shell: Seccomp shared,
    run_program_in_memory: Seccomp shared,
    fork: Seccomp shared,
    clone_process: Seccomp shared,
    clone_with_namespace: Seccomp shared,
    trace_other: Seccomp shared,
    be_traced: Seccomp shared,
    read_memory_of_other: Seccomp shared,
    write_memory_of_other: Seccomp shared,
    open_memory_of_other: Landlock,
    list_files_of_other: Landlock,
    signal_other: Seccomp,
    signal_thread_of_other: Seccomp,
    open_process: Seccomp,
    take_file_of_other: Seccomp shared,
    compare_with_other: Seccomp shared,
    bound_other: Seccomp,
    raise_own_bounds: Seccomp,
    become_root: Seccomp shared,
    join_groups: Seccomp shared,
    gain_capabilities: Seccomp shared,
    enter_namespace: Seccomp shared,
    make_namespace: Seccomp shared,
    rise_in_priority: Seccomp shared,
    run_in_real_time: Seccomp shared,
    pin_memory: Seccomp,
    load_program_into_kernel: Seccomp shared,
    load_module: Seccomp shared,
    load_module_from_file: Seccomp shared,
    unload_module: Seccomp shared,
    replace_kernel: Seccomp shared,
    reboot: Seccomp shared,
    swap_to_file: Seccomp shared,
    set_clock: Seccomp shared,
    adjust_clock: Seccomp shared,
    name_machine: Seccomp shared,
    change_personality: Seccomp shared,
    reach_ports_of_machine: Seccomp shared,
    change_segments: Seccomp shared,
    count_events: Seccomp shared,
    handle_faults: Seccomp shared,
    queue_calls: Seccomp shared,
    read_keys: Seccomp shared,
    add_key: Seccomp shared,
    read_kernel_log: Seccomp shared,
    account_processes: Seccomp shared,
    hang_up_terminal: Seccomp shared,
    type_into_terminal: Seccomp shared,
    make_code: Seccomp,
    run_own_data: Seccomp,
    hide_file_in_memory: Seccomp,
    let_others_dump_it: Seccomp,
    share_memory: Seccomp,
    send_messages: Seccomp,
    make_semaphores: Seccomp,
    speak_to_daemon: Seccomp,
    connect_without_grant: Seccomp,
    listen_without_grant: Landlock,
    send_datagram_without_grant: Seccomp,
    speak_to_kernel: Seccomp,
    read_all_packets: Seccomp shared,
    forge_packets: Seccomp shared,
    speak_to_hypervisor: Seccomp shared,
    use_kernel_ciphers: Seccomp shared,
    type_with_high_bits: Seccomp shared,
    send_signals_by_a_file: Seccomp,
}
