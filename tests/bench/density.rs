//! Idle containers of one small image in one daemon: memory, CPU, wake-ups, and how long `ps` takes.
//!
//! `cargo bench -p mote-cli --bench density [-- COUNT]`. Writes its plot to target/density.svg.

#![allow(clippy::print_stdout, reason = "a benchmark prints")]

mod common;
mod figures;

use std::time::Duration;

use common::Daemon;
use common::guests::SLEEP;
use figures::{Plot, mib, timed};

/// How many containers are started between two readings.
const STEP: usize = 1_000;
/// How long the daemon is watched while all are idle.
const WATCH: Duration = Duration::from_secs(10);
/// How many clients start containers at once.
const CLIENTS: usize = 8;

fn main() {
    let wanted = std::env::args().filter_map(|text| text.parse().ok()).next().unwrap_or(10_000);
    let daemon = Daemon::start(&[("sleep:1", SLEEP)]);
    let mut points = vec![(0, daemon.resident())];
    println!("{:>6} containers: {:6.1} MiB resident", 0, mib(points[0].1));
    while points.last().expect("one").0 < wanted {
        let count = STEP.min(wanted - points.last().expect("one").0);
        let took = timed(|| start(&daemon, count));
        let all = points.last().expect("one").0 + count;
        points.push((all, daemon.resident()));
        println!(
            "{all:>6} containers: {:6.1} MiB resident, {:.0} started in a second",
            mib(points.last().expect("one").1),
            count as f64 / took.as_secs_f64()
        );
    }
    let (count, resident) = *points.last().expect("one");
    println!("each takes {:.1} KiB", (resident - points[0].1) as f64 / count as f64 / 1024.0);
    // Output is flushed a second after it came; then nothing is to be done.
    std::thread::sleep(Duration::from_secs(3));
    let before = daemon.work();
    std::thread::sleep(WATCH);
    let after = daemon.work();
    let share = (after.0 - before.0).as_secs_f64() / WATCH.as_secs_f64();
    // A thread that ended meanwhile woke up for that at most.
    let woken = |(thread, count): (&String, &u64)| count - before.1.get(thread).unwrap_or(&0);
    let wakes = after.1.iter().map(woken).sum::<u64>() as f64 / WATCH.as_secs_f64();
    println!("idle: {:.2} % of a core, {wakes:.1} wake-ups in a second", 100.0 * share);
    let ps = timed(|| assert!(daemon.mote(&["ps", "-q"]).status().expect("mote").success()));
    println!("mote ps -q: {:.0} ms", ps.as_secs_f64() * 1000.0);
    let mut client = daemon.client();
    let api = timed(|| drop(client.call("GET", "/containers/json", "")));
    println!("GET /containers/json: {:.0} ms", api.as_secs_f64() * 1000.0);
    let line = points.iter().map(|(count, bytes)| (*count, mib(*bytes))).collect();
    let plot = Plot {
        title: "resident memory of the daemon, MiB",
        counted: "idle containers",
        lines: &[("mote", line)],
        limit: Some((1024.0, "1 GiB")),
    };
    plot.write("density");
}

fn start(daemon: &Daemon, count: usize) {
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let mut connection = daemon.client();
            scope.spawn(move || {
                for _ in (client..count).step_by(CLIENTS) {
                    let id = connection.create("sleep:1", r#","HostConfig":{"Memory":1048576}"#);
                    connection.call("POST", &format!("/containers/{id}/start"), "");
                }
            });
        }
    });
}
