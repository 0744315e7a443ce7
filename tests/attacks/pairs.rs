//! Statement 3.1 of the model: no container reaches what it was not granted. Every set of grants against every
//! probe, in every isolation, beside another container that has the others.

use std::net::TcpListener;
use std::process::Stdio;

use crate::harness::{Host, guest};

/// A grant: its flag, and what a guest sees that has it.
struct Grant {
    flag: [String; 2],
    shows: Vec<String>,
    /// Whether only components can use it.
    needs_sockets: bool,
}

fn grants(host: &Host, ports: [u16; 2]) -> Vec<Grant> {
    let folder = |name: &str| host.folder(name);
    let grant = |flag: &str, value: String, shows: &[String], needs_sockets| Grant {
        flag: [flag.to_owned(), value],
        shows: shows.to_vec(),
        needs_sockets,
    };
    let words = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    vec![
        grant("-v", format!("{}:/one:ro", folder("one")), &words(&["reads /one"]), false),
        grant(
            "-v",
            format!("{}:/two", folder("two")),
            &words(&["reads /two", "writes /two"]),
            false,
        ),
        grant("--tmpfs", "/three".to_owned(), &words(&["reads /three", "writes /three"]), false),
        grant("-e", "NAME=secret".to_owned(), &words(&["variable NAME=secret"]), false),
        grant(
            "--allow-net",
            format!("tcp://127.0.0.1:{}", ports[0]),
            &[format!("connects {}", ports[0])],
            true,
        ),
        grant(
            "--allow-net",
            format!("tcp://127.0.0.1:{}", ports[1]),
            &[format!("connects {}", ports[1])],
            true,
        ),
    ]
}

/// What a guest is told to try: what is granted in some set, under the guest's names and under the host's, what
/// others have, and the host's own.
fn probes(host: &Host, ports: [u16; 2], others: &str) -> Vec<String> {
    let hosts = |name: &str| host.path(name).display().to_string();
    let own = ["/one", "/two", "/three", "/", "/etc/passwd", "/proc/self/environ", "/tmp"];
    let all = own.into_iter().map(str::to_owned);
    let theirs =
        ["one", "two", "root", "root/scratch", "root/images", "root/logs", "state", "state/live"];
    let all = all.chain(theirs.into_iter().map(hosts)).chain([others.to_owned()]);
    all.chain(ports.map(|port| port.to_string())).collect()
}

fn every_set_against_every_probe(standard: &str, isolation: &str) {
    let host = Host::new();
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let ports = listeners.each_ref().map(|one| one.local_addr().expect("an address").port());
    // Somebody else has all that can be granted.
    let cat = guest("cat.p1");
    let theirs = format!("{}:/theirs", host.folder("theirs"));
    let args = [
        "run", "-i", "--name", "other", "-v", &theirs, "--tmpfs", "/scratch", "-e", "THEIRS=1",
        &cat,
    ];
    let mut other = host.command(args);
    let mut other = other.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it starts");
    let all: Vec<Grant> = grants(&host, ports)
        .into_iter()
        .filter(|grant| standard != "p1" || !grant.needs_sockets)
        .collect();
    let (see, probes) =
        (guest(&format!("see.{standard}")), probes(&host, ports, &host.folder("theirs")));
    for set in 0..1 << all.len() {
        let has = |number: &usize| set & (1 << number) != 0;
        let given: Vec<&Grant> = (0..all.len()).filter(has).map(|number| &all[number]).collect();
        let flags = given.iter().flat_map(|grant| grant.flag.iter().cloned());
        let args = ["run", "--isolation", isolation].map(str::to_owned).into_iter().chain(flags);
        let out = host.cli(args.chain([see.clone()]).chain(probes.clone())).success();
        let mut expected: Vec<&str> =
            given.iter().flat_map(|grant| grant.shows.iter().map(String::as_str)).collect();
        expected.sort_unstable();
        let seen: Vec<&str> = out.stdout.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(seen, expected, "set {set:b} of {standard} in {isolation}");
    }
    drop(other.stdin.take());
    assert!(other.wait().expect("it ends").success());
}

#[test]
fn statement_3_1_of_a_module_that_shares_its_hosts_process() {
    every_set_against_every_probe("p1", "shared");
}

#[test]
fn statement_3_1_of_a_module_in_a_process_of_its_own() {
    every_set_against_every_probe("p1", "process");
}

#[test]
fn statement_3_1_of_a_component_that_shares_its_hosts_process() {
    every_set_against_every_probe("p2", "shared");
}

#[test]
fn statement_3_1_of_a_component_in_a_process_of_its_own() {
    every_set_against_every_probe("p2", "process");
}
