//! Limits over time, as the machine counts what a guest uses. What is noticed late is never blamed on the guest: a
//! span counts with all the time that reading its ends may have taken, and one in which the machine itself stood still,
//! as virtual ones do, does not count.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::harness::{Host, guest};

/// Computes for a tenth of a second or so, waits for a fifth, and computes for ever: what it may not do is to save up.
const FITFUL: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\05\00\00\00")
  (data (i32.const 16) "busy\n")
  ;; A subscription to the monotonic clock, 200 ms from now.
  (data (i32.const 80) "\01\00\00\00\00\00\00\00\00\C2\EB\0B\00\00\00\00")
  (func (export "_start") (local $left i32) (local $rounds i32)
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (loop $again
      (local.set $left (i32.const 30000000))
      (loop $spin (br_if $spin (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
      (drop (call $poll (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 160)))
      (br_if $again (i32.lt_u
        (local.tee $rounds (i32.add (local.get $rounds) (i32.const 1))) (i32.const 3))))
    (loop (br 0))))"#;

/// How long is looked.
const LOOKED: Duration = Duration::from_secs(3);

/// What was used by when, the earliest and the latest that it can have been.
struct Look {
    from: Instant,
    until: Instant,
    used: Duration,
}

/// How long to wait between two looks.
const PAUSE: Duration = Duration::from_millis(1);
/// How long at most it is from one to the next, unless the processor stood still meanwhile.
const LONGEST_PAUSE: Duration = Duration::from_micros(1500);

/// Has this thread, and all that it starts, on one processor: what holds up a guest there holds up whoever looks.
fn stay_on_one_processor() {
    let mut processors = sched_getaffinity(None).expect("told");
    let last = (0..CpuSet::MAX_CPU).rev().find(|number| processors.is_set(*number));
    processors.clear();
    processors.set(last.expect("one at least"));
    sched_setaffinity(None, &processors).expect("stays");
}

/// Has this thread go before all others; tells whether it may (sched(7)).
fn go_first() -> bool {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: reads one value.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) == 0 }
}

/// The CPU time that a process has used (clock_getcpuclockid(3)).
fn cpu_time(process: u32) -> Duration {
    let (mut clock, mut now) = (0, libc::timespec { tv_sec: 0, tv_nsec: 0 });
    // SAFETY: both write one value each, to a place that is there for it.
    let told = unsafe {
        libc::clock_getcpuclockid(process as libc::pid_t, &raw mut clock) == 0
            && libc::clock_gettime(clock, &raw mut now) == 0
    };
    assert!(told, "process {process} has ended");
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// The processes that a process has started, and those of theirs.
fn with_children(process: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).expect("it runs").flatten();
    let lists = tasks.map(|task| std::fs::read_to_string(task.path().join("children")));
    let children: Vec<u32> = lists
        .flatten()
        .flat_map(|list| list.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect();
    std::iter::once(process).chain(children.into_iter().flat_map(with_children)).collect()
}

/// When a guest is given its share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    First,
    /// While it runs, in code that looks at nothing.
    Later,
}

/// Waits, while a guest runs on and says nothing.
fn wait(said: &Receiver<String>, time: Duration) {
    assert_eq!(said.recv_timeout(time), Err(RecvTimeoutError::Timeout), "it runs on");
}

/// Starts a guest, and waits until it says something.
fn start(host: &Host, args: &[&str]) -> (Child, Receiver<String>) {
    let mut command = host.command(args);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("started");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let (tell, said) = std::sync::mpsc::channel();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| tell.send(line)));
    assert_eq!(said.recv().expect("it runs"), "busy");
    (child, said)
}

/// What processes use, told again and again, on a thread that goes first, where it may.
fn look_at(processes: &[u32], said: &Receiver<String>) -> Vec<Look> {
    let look = || {
        let from = Instant::now();
        let used = processes.iter().map(|process| cpu_time(*process)).sum();
        Look { from, until: Instant::now(), used }
    };
    let looks = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            go_first();
            let start = Instant::now();
            let pauses = std::iter::repeat_with(|| std::thread::sleep(PAUSE));
            pauses.map(|()| look()).take_while(|look| look.from < start + LOOKED).collect()
        });
        looking.join().expect("looked")
    });
    wait(said, Duration::ZERO);
    looks
}

/// What was used from each look on in the most looks that are within a tenth of a second, where it was seen to its end.
fn used_in_tenths(looks: &[Look]) -> impl Iterator<Item = Duration> {
    const TENTH: Duration = Duration::from_millis(100);
    let from = |(place, first): (usize, &Look)| {
        let after = &looks[place..];
        let inside = after.partition_point(|last| last.until.duration_since(first.from) <= TENTH);
        (inside < after.len()).then(|| after[inside - 1].used - first.used)
    };
    looks.iter().enumerate().map_while(from)
}

#[test]
fn statement_4_1_no_tenth_of_a_second_has_more_than_a_tenth_above_a_cpu_share() {
    const SHARE: f64 = 0.3;
    // Where it may not, it would be late itself.
    if std::thread::spawn(go_first).join().expect("asked") {
        stay_on_one_processor();
    }
    let host = Host::new();
    let fitful = host.file("fitful.wat", FITFUL);
    let ways = ["shared", "process"]
        .map(|isolation| [(isolation, Given::First), (isolation, Given::Later)]);
    for (isolation, given) in ways.concat() {
        let share: &[&str] = if given == Given::First { &["--cpus", "0.3"] } else { &[] };
        let args = [&["run", "--name", "fitful", "--isolation", isolation], share, &[&fitful]];
        let (mut child, said) = start(&host, &args.concat());
        if given == Given::Later {
            host.cli(["update", "--cpus", "0.3", "fitful"]).success();
            // It hears of it at its next tick.
            wait(&said, Duration::from_millis(200));
        }
        let looks = look_at(&with_children(child.id()), &said);
        child.kill().expect("killed");
        child.wait().expect("ended");
        let tenths: Vec<Duration> = looks
            .chunk_by(|one, next| next.from.duration_since(one.from) <= LONGEST_PAUSE)
            .flat_map(used_in_tenths)
            .collect();
        assert!(tenths.len() > 500, "{isolation} {given:?}: the machine stood still too often");
        let most = tenths.iter().max().expect("there are some");
        assert!(
            most.as_secs_f64() <= 0.1 * SHARE * 1.1,
            "{isolation} {given:?}: {most:?} in 100 ms"
        );
        let all = looks.last().expect("looked").used - looks[0].used;
        assert!(
            all > LOOKED.mul_f64(SHARE / 4.0),
            "{isolation} {given:?}: it computed for {all:?}"
        );
    }
}

#[test]
fn a_guest_that_nothing_else_keeps_is_paused_with_its_process() {
    const FILLS: &str = r#"(module
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1000)
      (data (i32.const 0) "\10\00\00\00\05\00\00\00")
      (data (i32.const 16) "busy\n")
      (func (export "_start")
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (loop (memory.fill (i32.const 0) (i32.const 7) (i32.const 65000000)) (br 0))))"#;
    let host = Host::new();
    let fills = host.file("fills.wat", FILLS);
    let (mut child, said) =
        start(&host, &["run", "--name", "fills", "--isolation", "process", &fills]);
    let processes = with_children(child.id());
    let used = || processes[1..].iter().map(|process| cpu_time(*process)).sum::<Duration>();
    host.cli(["pause", "fills"]).success();
    let is_stopped = |process: &u32| {
        let tasks = std::fs::read_dir(format!("/proc/{process}/task")).expect("it is there");
        let stats =
            tasks.map(|task| std::fs::read_to_string(task.expect("a task").path().join("stat")));
        stats.into_iter().all(|stat| stat.expect("it is there").contains(") T "))
    };
    while !processes[1..].iter().all(is_stopped) {
        wait(&said, Duration::from_millis(1));
    }
    let before = used();
    wait(&said, Duration::from_millis(50));
    assert_eq!(used(), before, "it does nothing");
    // It reads nothing now, and hears of all that was switched when it goes on.
    for round in 0..160 {
        let memory = format!("{}m", 100 + round);
        host.cli(["update", "--memory", &memory, "fills"]).success();
    }
    host.cli(["unpause", "fills"]).success();
    while used() == before {
        wait(&said, Duration::from_millis(1));
    }
    host.cli(["kill", "fills"]).success();
    assert_eq!(child.wait().expect("ended").code(), Some(137));
}

#[test]
fn a_guest_that_is_paused_at_its_deadline_leaves_nothing() {
    let host = Host::new();
    let fitful = host.file("fitful.wat", FITFUL);
    let flags =
        ["run", "--name", "late", "--isolation", "process", "--tmpfs", "/t", "--timeout", "2s"];
    let (mut child, _said) = start(&host, &[&flags[..], &[&fitful]].concat());
    host.cli(["pause", "late"]).success();
    assert_eq!(child.wait().expect("ended").code(), Some(124));
    assert_eq!(host.left("root/scratch"), Vec::<String>::new());
    assert_eq!(host.left("state/live"), Vec::<String>::new());
}

/// Prints a port, and then when datagrams arrive there, by the kernel's own clock (`SO_TIMESTAMPNS` of socket(7)), and
/// how long each is, for three seconds from the first one on.
const TIMES: &str = r"
import socket, struct
socket_, first = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), None
socket_.setsockopt(socket.SOL_SOCKET, 35, 1)
socket_.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
socket_.bind(('127.0.0.1', 0))
socket_.settimeout(20)
print(socket_.getsockname()[1], flush=True)
while True:
    data, told, _, _ = socket_.recvmsg(65536, 64)
    seconds, nanos = struct.unpack('qq', told[0][2][:16])
    at = seconds * 10**9 + nanos
    first = first or at
    if at > first + 3 * 10**9:
        break
    print(at, len(data))
";

#[test]
fn statement_4_1_no_second_has_more_than_a_twentieth_above_a_network_rate() {
    const RATE: u64 = 1 << 20;
    let host = Host::new();
    for isolation in ["shared", "process"] {
        let mut observer = Command::new("python3")
            .args(["-c", TIMES])
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let mut lines = BufReader::new(observer.stdout.take().expect("a pipe")).lines();
        let port = lines.next().expect("a port").expect("a line");
        let (rule, address) = (format!("udp://127.0.0.1:{port}"), format!("127.0.0.1:{port}"));
        let flood = guest("flood.p2");
        let mut child = host
            .command(["run", "--net-rate", "1m", "--allow-net", &rule])
            .args(["--isolation", isolation, &flood, &address])
            .spawn()
            .expect("started");
        let arrived: Vec<(u64, u64)> = lines
            .map_while(Result::ok)
            .map(|line| {
                let (at, length) = line.split_once(' ').expect("two numbers");
                (at.parse().expect("a time"), length.parse().expect("a length"))
            })
            .collect();
        observer.wait().expect("ended");
        child.kill().expect("killed");
        child.wait().expect("ended");
        let (mut most, mut sum, mut oldest) = (0, 0, 0);
        for (at, length) in &arrived {
            sum += length;
            while *at - arrived[oldest].0 > 1_000_000_000 {
                sum -= arrived[oldest].1;
                oldest += 1;
            }
            most = most.max(sum);
        }
        assert!(most <= RATE * 21 / 20, "{isolation}: {most} bytes in a second");
        assert!(most >= RATE / 2, "{isolation}: it sent {most} bytes in a second");
    }
}
