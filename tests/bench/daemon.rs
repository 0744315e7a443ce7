//! The daemon over its API: start to first output, whole lives in a second, pause, update, CPU shares
//! and neighbours.
//!
//! `cargo bench -p mote-cli --bench daemon`, as root. Peers where they are on the machine: containerd
//! with runc, driven by `ctr`, and podman with runc, each with a static native hello; mote's turn there
//! is the docker command, with mote's daemon behind it. Medians of interleaved runs.

#![allow(clippy::print_stdout, reason = "a benchmark prints")]

mod common;
mod containerd;
mod figures;
mod peers;

use std::time::{Duration, Instant};

use common::guests::{HELLO, SLEEP};
use common::{CHATTY, Client, Daemon, GROW, Output, SPIN};
use figures::{median, percentile, timed};

const STARTS: usize = 300;
const CLIENTS: usize = 16;
const LIVES: Duration = Duration::from_secs(5);

fn main() {
    let images = [
        ("hello:1", HELLO),
        ("sleep:1", SLEEP),
        ("spin:1", SPIN),
        ("grow:1", GROW),
        ("chatty:1", CHATTY),
    ];
    let daemon = Daemon::start(&images);
    println!("no containers: {:.1} MiB resident", daemon.resident() as f64 / f64::from(1 << 20));
    starts(&daemon);
    peers::compare(&daemon);
    lives(&daemon);
    pauses(&daemon);
    updates(&daemon);
    more_memory(&daemon);
    logs(&daemon);
    shares(&daemon, 1);
    shares(&daemon, 4);
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// From the request to the first byte that the guest printed; the change is on the disk by then.
fn starts(daemon: &Daemon) {
    let mut client = daemon.client();
    let mut times = Vec::new();
    for round in 0..STARTS + 20 {
        let id = client.create("hello:1", "");
        let mut output = Output::of(client.again(), &id);
        let start = Instant::now();
        client.call("POST", &format!("/containers/{id}/start"), "");
        output.first();
        if round >= 20 {
            times.push(start.elapsed());
        }
        client.call("POST", &format!("/containers/{id}/wait"), "");
        client.call("DELETE", &format!("/containers/{id}"), "");
    }
    println!(
        "start to first output: median {:.2} ms, p99 {:.2} ms",
        ms(median(&mut times)),
        ms(percentile(&mut times, 99))
    );
}

/// Create, start, end, remove, by several clients at once.
fn lives(daemon: &Daemon) {
    let start = Instant::now();
    let lived: usize = std::thread::scope(|scope| {
        let live = || {
            let mut client = daemon.client();
            scope.spawn(move || {
                let mut lived = 0;
                while start.elapsed() < LIVES {
                    let id = client.create("hello:1", "");
                    client.call("POST", &format!("/containers/{id}/start"), "");
                    client.call("POST", &format!("/containers/{id}/wait"), "");
                    client.call("DELETE", &format!("/containers/{id}"), "");
                    lived += 1;
                }
                lived
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| live()).collect();
        clients.into_iter().map(|client| client.join().expect("it ends well")).sum()
    });
    let rate = lived as f64 / start.elapsed().as_secs_f64();
    println!("create, start, exit, remove: {rate:.0} in a second ({CLIENTS} clients)");
}

fn cpu_nanos(client: &mut Client, id: &str) -> u64 {
    let stats = client.call("GET", &format!("/containers/{id}/stats?stream=0&one-shot=1"), "");
    let stats: serde_json::Value = serde_json::from_str(&stats).expect("JSON");
    stats["cpu_stats"]["cpu_usage"]["total_usage"].as_u64().expect("a number")
}

fn run(client: &mut Client, image: &str, more: &str) -> String {
    let id = client.create(image, more);
    client.call("POST", &format!("/containers/{id}/start"), "");
    id
}

fn remove(client: &mut Client, id: &str) {
    client.call("DELETE", &format!("/containers/{id}?force=1"), "");
}

/// How long until a busy guest computes no more, and whether it does while it is paused.
fn pauses(daemon: &Daemon) {
    let mut client = daemon.client();
    let id = run(&mut client, "spin:1", "");
    let (mut times, mut used) = (Vec::new(), 0);
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(30));
        let start = Instant::now();
        client.call("POST", &format!("/containers/{id}/pause"), "");
        // It computes no more when two looks at the counter find the same, later than a tick and a half.
        let mut before = cpu_nanos(&mut client, &id);
        loop {
            let now = cpu_nanos(&mut client, &id);
            if now == before && start.elapsed() > Duration::from_millis(10) {
                break;
            }
            if now != before {
                times.push(start.elapsed());
                before = now;
            }
        }
        times.push(Duration::ZERO);
        let paused = cpu_nanos(&mut client, &id);
        std::thread::sleep(Duration::from_millis(50));
        used += cpu_nanos(&mut client, &id) - paused;
        client.call("POST", &format!("/containers/{id}/unpause"), "");
    }
    let slowest = times.iter().max().copied().unwrap_or_default();
    println!(
        "pause: the last computing was seen {:.1} ms after it was asked for, at most; {used} ns used while paused",
        ms(slowest)
    );
    remove(&mut client, &id);
}

/// How long until a lower CPU share is felt.
fn updates(daemon: &Daemon) {
    let mut client = daemon.client();
    let id = run(&mut client, "spin:1", "");
    std::thread::sleep(Duration::from_millis(200));
    client.call("POST", &format!("/containers/{id}/update"), r#"{"NanoCpus":100000000}"#);
    std::thread::sleep(Duration::from_millis(100));
    let (before, start) = (cpu_nanos(&mut client, &id), Instant::now());
    std::thread::sleep(Duration::from_secs(2));
    let used = (cpu_nanos(&mut client, &id) - before) as f64 / start.elapsed().as_nanos() as f64;
    println!("update --cpus 0.1: {used:.3} of a CPU from 100 ms after it");
    remove(&mut client, &id);
}

/// How long until a guest that wants more memory has it, from the request for more.
fn more_memory(daemon: &Daemon) {
    let mut client = daemon.client();
    let mut times = Vec::new();
    for _ in 0..20 {
        // It tells of each page above the one that it starts with, up to its limit of 16.
        let id = client.create("grow:1", r#","HostConfig":{"Memory":1048576}"#);
        let mut output = Output::of(client.again(), &id);
        client.call("POST", &format!("/containers/{id}/start"), "");
        (0..15).for_each(|_| output.first());
        times.push(timed(|| {
            client.call("POST", &format!("/containers/{id}/update"), r#"{"Memory":2097152}"#);
            output.first();
        }));
        remove(&mut client, &id);
    }
    println!(
        "update --memory: the guest has more after {:.1} ms (median), {:.1} ms (longest)",
        ms(median(&mut times)),
        ms(percentile(&mut times, 100))
    );
}

/// How much is written to the disk for what a guest logs line by line: flash wears by the page.
fn logs(daemon: &Daemon) {
    let mut client = daemon.client();
    let id = run(&mut client, "chatty:1", "");
    // Past what its start wrote; several batches follow.
    std::thread::sleep(Duration::from_secs(7));
    let (written, logged) = (daemon.written(), daemon.logged(&id));
    std::thread::sleep(Duration::from_secs(25));
    let (written, logged) = (daemon.written() - written, daemon.logged(&id) - logged);
    println!(
        "logs: {:.2} bytes written to the disk for each byte of a log of 100 lines a second ({} KiB)",
        written as f64 / logged as f64,
        logged >> 10
    );
    remove(&mut client, &id);
}

/// Guests with a share of 0.25, beside one that may compute as it likes, and one that is called.
fn shares(daemon: &Daemon, busy: usize) {
    let mut client = daemon.client();
    let neighbour = run(&mut client, "spin:1", "");
    let quarter = r#","HostConfig":{"NanoCpus":250000000}"#;
    let guests: Vec<String> = (0..busy).map(|_| run(&mut client, "spin:1", quarter)).collect();
    std::thread::sleep(Duration::from_millis(500));
    let before: Vec<u64> = guests.iter().map(|id| cpu_nanos(&mut client, id)).collect();
    let free = cpu_nanos(&mut client, &neighbour);
    let start = Instant::now();
    let mut waits = Vec::new();
    while start.elapsed() < Duration::from_secs(10) {
        // The neighbour's latency is that of a life beside all this.
        let id = client.create("hello:1", "");
        waits.push(timed(|| {
            client.call("POST", &format!("/containers/{id}/start"), "");
            client.call("POST", &format!("/containers/{id}/wait"), "");
        }));
        client.call("DELETE", &format!("/containers/{id}"), "");
        std::thread::sleep(Duration::from_millis(20));
    }
    let nanos = start.elapsed().as_nanos() as f64;
    let used: Vec<String> = guests
        .iter()
        .zip(&before)
        .map(|(id, before)| format!("{:.3}", (cpu_nanos(&mut client, id) - before) as f64 / nanos))
        .collect();
    let free = (cpu_nanos(&mut client, &neighbour) - free) as f64 / nanos;
    println!(
        "{busy} busy with a share of 0.25 each: {}; an unlimited neighbour gets {free:.2}; a start beside them takes {:.1} ms (median), {:.1} ms (p99)",
        used.join(" "),
        ms(median(&mut waits)),
        ms(percentile(&mut waits, 99))
    );
    guests.iter().chain([&neighbour]).for_each(|id| remove(&mut client, id));
}
