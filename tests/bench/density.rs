//! Idle containers of one small image in one daemon: memory, CPU, wake-ups, and how long `ps` takes.
//!
//! `cargo bench -p mote-cli --bench density [-- COUNT]`. Writes its plot to target/density.svg.

#![allow(clippy::print_stdout, reason = "a benchmark prints")]

mod common;

use std::time::Duration;

use common::guests::SLEEP;
use common::{Daemon, timed};

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
    let plot = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/density.svg");
    std::fs::write(plot, svg(&points)).expect("the plot is written");
    println!("plot: target/density.svg");
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

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Resident memory over the number of containers, and the line that is not to be crossed.
fn svg(points: &[(usize, u64)]) -> String {
    let most = points.last().expect("one").0.max(1) as f64;
    let top = 1024.0_f64.max(points.iter().map(|(_, bytes)| mib(*bytes)).fold(0.0, f64::max));
    let x = |count: usize| 60.0 + 500.0 * count as f64 / most;
    let y = |mib: f64| 320.0 - 280.0 * mib / top;
    let line: Vec<String> = points
        .iter()
        .map(|(count, bytes)| format!("{:.1},{:.1}", x(*count), y(mib(*bytes))))
        .collect();
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"600\" height=\"360\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"600\" height=\"360\" fill=\"white\"/>\n\
         <polyline points=\"60,40 60,320 560,320\" fill=\"none\" stroke=\"black\"/>\n\
         <line x1=\"60\" x2=\"560\" y1=\"{limit:.1}\" y2=\"{limit:.1}\" stroke=\"red\" stroke-dasharray=\"4\"/>\n\
         <text x=\"64\" y=\"{limit:.1}\" dy=\"-4\" fill=\"red\">1 GiB</text>\n\
         <polyline points=\"{}\" fill=\"none\" stroke=\"steelblue\" stroke-width=\"2\"/>\n\
         <text x=\"560\" y=\"340\" text-anchor=\"end\">{most} idle containers</text>\n\
         <text x=\"60\" y=\"30\">resident memory of the daemon ({top:.0} MiB at the top)</text>\n</svg>\n",
        line.join(" "),
        limit = y(1024.0),
    )
}
