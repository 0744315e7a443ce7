//! Statement 3.1 for the network: a guest reaches what a rule names, and nothing else.

use crate::harness::{Host, guest};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;

/// A server that answers every connection with what it was told, in capitals.
fn shouting() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut said = String::new();
            if stream.read_to_string(&mut said).is_ok() {
                let _ = stream.write_all(said.to_uppercase().as_bytes());
            }
        }
    });
    address
}

#[test]
fn connections_take_a_rule() {
    let (host, server) = (Host::new(), shouting());
    let port = server.rsplit(':').next().expect("a port");
    let run = |flags: &[&str], to: &str| {
        host.cli([&["run"], flags, &[guest("connect.p2").as_str(), to, "hi"]].concat())
            .success()
            .stdout
    };
    let allowed = format!("{server}: HI\n");
    assert_eq!(run(&["--allow-net", &format!("tcp://127.0.0.0/8:{port}")], &server), allowed);
    assert_eq!(run(&["--allow-net", "tcp://*:*"], &server), allowed);
    assert_eq!(run(&["--network", "host"], &server), allowed);
    for flags in [
        vec![],
        vec!["--allow-net".to_owned(), format!("udp://127.0.0.1:{port}")],
        vec!["--allow-net".to_owned(), "tcp://127.0.0.1:1".to_owned()],
        vec!["--allow-net".to_owned(), format!("tcp://10.0.0.0/8:{port}")],
        vec!["--allow-net".to_owned(), format!("tcp://db.invalid:{port}")],
        vec!["--allow-dns".to_owned()],
    ] {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        assert_eq!(run(&flags, &server), format!("{server}: PermissionDenied\n"), "{flags:?}");
        let guest = guest("connect.p2");
        let out = host.cli([&["run"], &flags[..], &[guest.as_str(), &server, "hi"]].concat());
        let told = format!(
            "was refused to connect to {server}; allow it with --allow-net tcp://{server}\n"
        );
        assert!(out.stderr.ends_with(&told), "{out:?}");
    }
}

#[test]
fn a_rule_that_names_a_host_allows_its_addresses() {
    let (host, server) = (Host::new(), shouting());
    let port = server.rsplit(':').next().expect("a port");
    let rule = format!("tcp://localhost:{port}");
    let by_name = format!("localhost:{port}");
    let out =
        host.cli(["run", "--allow-net", &rule, &guest("connect.p2"), &by_name, "hi"]).success();
    assert_eq!(out.stdout, format!("{by_name}: HI\n"));
    let out =
        host.cli(["run", "--allow-net", &rule, &guest("connect.p2"), &server, "hi"]).success();
    assert_eq!(out.stdout, format!("{server}: HI\n"), "an address that the name has");
}

#[test]
fn names_are_looked_up_only_where_a_rule_says() {
    let host = Host::new();
    let run = |flags: &[&str]| {
        host.cli([&["run"], flags, &[guest("resolve.p2").as_str(), "localhost"]].concat())
            .success()
            .stdout
    };
    assert_eq!(run(&[]), "localhost: refused\n");
    let told = host.cli(["run", &guest("resolve.p2"), "localhost"]).success().stderr;
    assert!(told.contains("refused to look up localhost; allow it with --allow-dns"), "{told}");
    assert!(run(&["--allow-dns"]).contains("127.0.0.1"));
    assert!(run(&["--allow-net", "tcp://localhost:80"]).contains("127.0.0.1"));
    assert_eq!(run(&["--allow-net", "tcp://other.example:80"]), "localhost: refused\n");
}

#[test]
fn a_published_port_leads_to_the_guests_own() {
    let host = Host::new();
    let free =
        TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let publish = format!("127.0.0.1:{free}:8080");
    let mut child = host
        .command(["run", "-p", &publish, &guest("listen.p2"), "8080"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("read");
    assert_eq!(line, "listening on 8080\n", "the guest sees its own port");
    let mut stream =
        TcpStream::connect(("127.0.0.1", free)).expect("it listens at the host's port");
    stream.write_all(b"hello").expect("sent");
    stream.shutdown(std::net::Shutdown::Write).expect("shut down");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    assert_eq!(answer, "you said hello");
    assert!(child.wait().expect("ended").success());
}

#[test]
fn a_port_that_is_not_published_is_not_listened_on() {
    let host = Host::new();
    for flags in [vec![], vec!["-p", "127.0.0.1:18099:8081"], vec!["--allow-net", "tcp://*:*"]] {
        let out = host
            .cli([&["run"], flags.as_slice(), &[guest("listen.p2").as_str(), "8080"]].concat())
            .success();
        assert_eq!(out.stdout, "cannot listen on 8080: PermissionDenied\n", "{flags:?}");
        assert!(out.stderr.contains("port 8080; allow it with -p HOST_PORT:8080"), "{out:?}");
    }
}

#[test]
fn a_network_rate_slows_down() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(&vec![0; 1 << 20]);
        }
    });
    let host = Host::new();
    let start = std::time::Instant::now();
    let out = host
        .cli([
            "run",
            "--net-rate",
            "1m",
            "--allow-net",
            "tcp://*:*",
            &guest("download.p2"),
            &address,
        ])
        .success();
    assert_eq!(out.stdout, "1048576\n");
    // The rate is a bound from below on the time; how much longer it takes is the machine's affair.
    assert!(start.elapsed().as_secs_f64() > 0.85, "{:?}", start.elapsed());
}

#[test]
fn a_guest_of_wasi_0_3_is_held_to_the_same_rules() {
    let (host, server) = (Host::new(), shouting());
    let (address, port) = server.split_once(':').expect("an address");
    let run = |flags: &[&str], text: &str| {
        host.cli([&["run"], flags, &[guest("connect.p3").as_str(), address, port, text]].concat())
            .success()
            .stdout
    };
    assert_eq!(run(&["--allow-net", "tcp://127.0.0.1:*"], "hi"), "2 bytes: HI\n");
    assert_eq!(run(&[], "hi"), "ErrorCode::AccessDenied\n");
    let long = "x".repeat(100_000);
    let start = std::time::Instant::now();
    let out = run(&["--allow-net", "tcp://127.0.0.1:*", "--net-rate", "200k"], &long);
    assert_eq!(out, format!("100000 bytes: {}\n", "X".repeat(20)));
    assert!(start.elapsed().as_secs_f64() > 0.8, "both ways count: {:?}", start.elapsed());
}

/// A web server that answers everything with so many bytes.
fn web(bytes: usize) -> String {
    let server =
        crate::harness::Unruly::start(move |_, _| crate::harness::Reply::ok(vec![b'x'; bytes]));
    server.address().to_owned()
}

#[test]
fn http_requests_take_a_rule() {
    let (host, server) = (Host::new(), web(1_000));
    let address = format!("http://{server}/v1/things");
    let run = |flags: &[&str]| {
        host.cli([&["run"], flags, &[guest("get.p2").as_str(), &address]].concat()).success().stdout
    };
    assert_eq!(
        run(&["--allow-http", &format!("http://{server}/v1")]),
        format!("{address}: 200, 1000 bytes\n")
    );
    assert_eq!(run(&["--network", "host"]), format!("{address}: 200, 1000 bytes\n"));
    for rule in ["https://127.0.0.1/v1", "http://127.0.0.1/v1", &format!("http://{server}/v2")] {
        let out = run(&["--allow-http", rule]);
        assert!(out.contains("HttpRequestDenied"), "{rule}: {out}");
        let guest = guest("get.p2");
        let told = host.cli(["run", "--allow-http", rule, &guest, &address]).success().stderr;
        assert!(told.contains(&format!("allow it with --allow-http {address}")), "{told}");
    }
    let out = run(&["--allow-net", "tcp://*:*"]);
    assert!(out.contains("HttpRequestDenied"), "a rule for connections is none for HTTP: {out}");
}

#[test]
fn http_bodies_are_held_to_the_network_rate() {
    let (host, server) = (Host::new(), web(200_000));
    let start = std::time::Instant::now();
    let args = ["run", "--net-rate", "200k", "--allow-http", &format!("http://{server}")];
    let out =
        host.cli([&args[..], &[&guest("get.p2"), &format!("http://{server}/")]].concat()).success();
    assert!(out.stdout.ends_with("200, 200000 bytes\n"), "{out:?}");
    assert!(start.elapsed().as_secs_f64() > 0.8, "{:?}", start.elapsed());
}

#[test]
fn a_published_port_that_is_taken_is_named_before_the_guest_starts() {
    let host = Host::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let publish = format!("{address}:80");
    let out = host.cli(["run", "-p", &publish, &guest("listen.p2"), "80"]);
    out.fails(125, &[&format!("cannot publish {address}"), "in use", "-p"]);
}
