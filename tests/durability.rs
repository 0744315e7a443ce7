//! A daemon that is killed again and again under load keeps what it acknowledged, and nothing else.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::docker::SERVICE;
use crate::harness::{Client, Daemon, Host, tool};

const CLIENTS: usize = 5;
/// Containers of each client: fifty together.
const EACH: usize = 10;

/// What a client knows of one of its containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Absent,
    Created,
    Running,
    Paused,
    Stopped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Create,
    Start,
    Stop,
    Pause,
    Unpause,
    Remove,
}

/// Its own log: what was acknowledged, and what was asked for when the connection broke.
#[derive(Debug, Clone, Copy)]
struct Log {
    known: Known,
    pending: Option<Act>,
    policy: &'static str,
}

impl Act {
    /// What an acknowledged act leaves; none if it is refused.
    fn after(self, known: Known) -> Option<Known> {
        match (self, known) {
            (Act::Create, Known::Absent) => Some(Known::Created),
            (Act::Start, Known::Created | Known::Stopped) => Some(Known::Running),
            (Act::Stop, Known::Running | Known::Paused) => Some(Known::Stopped),
            (Act::Pause, Known::Running) => Some(Known::Paused),
            (Act::Unpause, Known::Paused) => Some(Known::Running),
            (Act::Remove, Known::Created | Known::Running | Known::Paused | Known::Stopped) => {
                Some(Known::Absent)
            }
            (_, _) => None,
        }
    }

    fn request(self, name: &str, policy: &str) -> (&'static str, String, String) {
        let path = |what: &str| format!("/containers/{name}{what}");
        let none = String::new();
        match self {
            Act::Create => (
                "POST",
                format!("/containers/create?name={name}"),
                format!(
                    r#"{{"Image":"service:1","HostConfig":{{"RestartPolicy":{{"Name":"{policy}"}}}}}}"#
                ),
            ),
            Act::Start => ("POST", path("/start"), none),
            Act::Stop => ("POST", path("/stop"), none),
            Act::Pause => ("POST", path("/pause"), none),
            Act::Unpause => ("POST", path("/unpause"), none),
            Act::Remove => ("DELETE", path("?force=1"), none),
        }
    }
}

/// A small generator of numbers (xorshift64), so that every run is the same.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

/// What is to be found after a restart, by what was recorded.
fn found_after(known: Known, policy: &str) -> &'static str {
    match (known, policy) {
        (Known::Absent, _) => "absent",
        (Known::Created, _) => "created",
        (Known::Running | Known::Paused, "always" | "unless-stopped") => "running",
        (Known::Stopped, "always") => "running",
        (Known::Running | Known::Paused | Known::Stopped, _) => "exited",
    }
}

/// What the clients of a round count together.
#[derive(Default)]
struct Counts {
    acknowledged: AtomicUsize,
    /// Commands that failed since the disk did.
    failed: AtomicUsize,
}

/// Does random things to its containers until the connection breaks. What failed with the disk may
/// have been done or not, and is left alone from then on.
fn load(
    mut client: Client,
    logs: &mut BTreeMap<String, Log>,
    random: &mut Random,
    (counts, disk): (&Counts, Disk),
) {
    const ACTS: [Act; 8] = [
        Act::Create,
        Act::Create,
        Act::Start,
        Act::Start,
        Act::Stop,
        Act::Pause,
        Act::Unpause,
        Act::Remove,
    ];
    while logs.values().any(|log| log.pending.is_none()) {
        let at = random.below(logs.len() as u64) as usize;
        let (name, log) = logs.iter_mut().nth(at).expect("one of them");
        let act = ACTS[random.below(ACTS.len() as u64) as usize];
        let Some(next) = act.after(log.known).filter(|_| log.pending.is_none()) else { continue };
        if act == Act::Create {
            log.policy = ["no", "always", "unless-stopped"][random.below(3) as usize];
        }
        let (method, path, body) = act.request(name, log.policy);
        log.pending = Some(act);
        match client.attempt(method, &path, &body) {
            Ok((200..300, _)) => {
                (log.known, log.pending) = (next, None);
                counts.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Ok((500, text)) if disk == Disk::Fills && text.contains("containers.db") => {
                counts.failed.fetch_add(1, Ordering::Relaxed);
            }
            Ok((status, text)) => panic!("{act:?} {name}, {log:?}: {status} {text}"),
            Err(_) => return,
        }
    }
}

/// The state of every container, by name.
fn states(client: &mut Client) -> BTreeMap<String, String> {
    let list = client.call("GET", "/containers/json?all=1", "");
    let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    let one = |entry: &serde_json::Value| {
        let name = entry["Names"][0].as_str().expect("a name").trim_start_matches('/').to_owned();
        (name, entry["State"].as_str().expect("a state").to_owned())
    };
    list.as_array().expect("a list").iter().map(one).collect()
}

/// Compares what is there with the log, and brings the log up to date.
fn check(client: &mut Client, logs: &mut BTreeMap<String, Log>, round: u64) {
    let allowed = |log: &Log| -> Vec<&'static str> {
        let done = log.pending.and_then(|act| act.after(log.known));
        // To remove by force is to kill, and then to remove.
        let between = (log.pending == Some(Act::Remove)).then_some(Known::Stopped);
        let possible = [Some(log.known), done, between].into_iter().flatten();
        possible.map(|known| found_after(known, log.policy)).collect()
    };
    loop {
        let states = states(client);
        let state = |name: &String| states.get(name).map_or("absent", String::as_str);
        let unlike: Vec<String> = logs
            .iter()
            .filter(|(name, log)| !allowed(log).contains(&state(name)))
            .map(|(name, log)| format!("{name} is {}: {log:?}", state(name)))
            .collect();
        // What is to run is started one after the other: until then it has ended.
        let waiting = logs.iter().any(|(name, log)| {
            !allowed(log).contains(&state(name))
                && allowed(log).contains(&"running")
                && matches!(state(name), "exited" | "restarting")
        });
        if waiting {
            continue;
        }
        assert!(unlike.is_empty(), "round {round}: {unlike:#?}");
        assert!(states.keys().all(|name| logs.contains_key(name)), "nothing else is there");
        for (name, log) in logs.iter_mut() {
            log.pending = None;
            log.known = match state(name) {
                "absent" => Known::Absent,
                "created" => Known::Created,
                "running" => Known::Running,
                _ => Known::Stopped,
            };
        }
        return;
    }
}

/// What becomes of the daemon's writes meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disk {
    Sound,
    /// Again and again no file can grow, until some commands have failed.
    Fills,
}

#[test]
fn statement_2_1_a_killed_daemon_keeps_what_it_acknowledged_five_hundred_times() {
    let counts = kill_again_and_again(500, Disk::Sound);
    assert!(counts.acknowledged.into_inner() > 500);
}

#[test]
fn a_disk_that_fills_again_and_again_loses_nothing_that_was_acknowledged() {
    let counts = kill_again_and_again(50, Disk::Fills);
    assert!(counts.acknowledged.into_inner() > 50);
    assert!(counts.failed.into_inner() > 50, "the disk did fail");
}

fn kill_again_and_again(rounds: u64, disk: Disk) -> Counts {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let socket = host.path("state/mote.sock");
    let log = Log { known: Known::Absent, pending: None, policy: "no" };
    let mut clients: Vec<BTreeMap<String, Log>> = (0..CLIENTS)
        .map(|client| (0..EACH).map(|one| (format!("c{client}-{one}"), log)).collect())
        .collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let counts = Counts::default();
    for round in 0..rounds {
        let daemon = Daemon::start(&host);
        let mut client = Client::connect(&socket);
        let mut all: BTreeMap<String, Log> =
            clients.iter().flatten().map(|(n, l)| (n.clone(), *l)).collect();
        check(&mut client, &mut all, round);
        for logs in &mut clients {
            logs.iter_mut().for_each(|(name, log)| *log = all[name]);
        }
        let done = || counts.acknowledged.load(Ordering::Relaxed);
        let failed = || counts.failed.load(Ordering::Relaxed);
        let goal = done() + 1 + random.below(60) as usize;
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for logs in &mut clients {
                let mut random = Random(random.below(u64::MAX - 1) + 1);
                // Before any of them can end the round.
                let (client, counts) = (client.again(), &counts);
                threads.push(scope.spawn(move || load(client, logs, &mut random, (counts, disk))));
            }
            // A client that panics ends the round as well.
            let working = || !threads.iter().any(|thread| thread.is_finished());
            let mut failing = random.below(20) as usize + done();
            while done() < goal && working() {
                if disk == Disk::Fills && done() >= failing {
                    let before = failed();
                    daemon.bound_files(Some(1));
                    while failed() < before + 2 && working() {
                        std::thread::yield_now();
                    }
                    daemon.bound_files(None);
                    failing = done() + random.below(20) as usize;
                }
                std::thread::yield_now();
            }
            daemon.kill();
        });
    }
    let daemon = Daemon::start(&host);
    let mut client = Client::connect(&socket);
    let mut all: BTreeMap<String, Log> = clients.into_iter().flatten().collect();
    check(&mut client, &mut all, rounds);
    for name in states(&mut client).into_keys() {
        client.call("DELETE", &format!("/containers/{name}?force=1"), "");
    }
    drop(daemon);
    for folder in ["root/logs", "root/scratch", "state/live"] {
        assert_eq!(host.left(folder), Vec::<String>::new(), "{folder}");
    }
    assert!(!socket.exists());
    counts
}

/// A small file system of a test's own; unmounted when it is dropped.
struct Small(std::path::PathBuf);

impl Small {
    fn mount(folder: &str) -> Small {
        tool("mount", ["-t", "tmpfs", "-o", "size=12m", "tmpfs", folder]);
        Small(folder.into())
    }

    /// Leaves not one byte.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("filler")).expect("a file");
        for size in [1 << 16, 1 << 12, 1] {
            while std::io::Write::write_all(&mut file, &vec![1; size]).is_ok() {}
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .args(["--lazy".as_ref(), self.0.as_os_str()])
            .status();
    }
}

#[test]
fn on_a_full_disk_containers_can_be_stopped_and_removed() {
    let host = Host::new();
    let disk = Small::mount(&host.folder("root"));
    host.import("service:1", SERVICE);
    let daemon = Daemon::start(&host);
    for name in ["one", "two"] {
        host.cli(["run", "-d", "--name", name, "--restart", "always", "service:1"]).success();
    }
    disk.fill();
    host.cli(["stop", "one"]).success();
    host.cli(["rm", "-f", "two"]).success();
    let listed = host.cli(["ps", "-a", "--format", "{{.Names}} {{.Status}}"]).success().stdout;
    assert!(listed.starts_with("one Exited (143)") && listed.lines().count() == 1, "{listed}");
    drop(daemon);
}
