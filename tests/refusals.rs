//! What is refused says why, and what to do.

use std::process::Stdio;

use crate::docker::SERVICE;
use crate::harness::{Client, Daemon, Host, guest};

#[test]
fn a_container_of_a_terminal_is_told_from_one_of_the_daemon() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let mut command = host.command(["run", "--name", "web", &guest("sleep.p1"), "100000"]);
    let mut terminal = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("mote");
    while host.cli(["ps", "-q"]).success().stdout.is_empty() {}
    let named = host.cli(["ps", "-f", "name=we", "--format", "{{.Names}}"]).success().stdout;
    assert_eq!(named, "web\n");
    assert_eq!(host.cli(["ps", "-q", "-f", "status=paused"]).success().stdout, "");
    host.cli(["update", "--restart", "always", "web"]).fails(1, &["nobody starts again"]);
    let verbs: [&[&str]; 9] = [
        &["rm", "--force", "web"],
        &["logs", "web"],
        &["exec", "web", "check"],
        &["attach", "web"],
        &["port", "web"],
        &["cp", "web:/x", "-"],
        &["rm", "web"],
        &["restart", "web"],
        &["rename", "web", "other"],
    ];
    for verb in verbs {
        let out = host.cli(verb);
        assert!(out.stderr.contains("in a terminal"), "{verb:?}: {}", out.stderr);
        assert_ne!(out.code, 0, "{verb:?}");
    }
    let _daemon = Daemon::start(&host);
    host.cli(["create", "--name", "web", "service:1"]).fails(125, &["in use", "a terminal"]);
    // The API does not look at terminals: then a name is not enough.
    let mut client = Client::connect(&host.path("state/mote.sock"));
    client.call("POST", "/containers/create?name=web", r#"{"Image":"service:1"}"#);
    host.cli(["stop", "web"]).fails(1, &["and one of the daemon", "by its id"]);
    let id = host.cli(["ps", "--format", "{{.ID}}"]).success().stdout;
    host.cli(["stop", id.trim()]).success();
    terminal.wait().expect("ended");
    host.cli(["run", "--name", "web", &guest("hello.p1")]).fails(125, &["in use", "the daemon"]);
}

#[test]
fn a_daemon_that_does_not_run_is_named_as_what_is_missing() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let daemon = Daemon::start(&host);
    host.cli(["run", "-d", "--name", "web", "service:1"]).success();
    drop(daemon);
    for verb in [["logs", "web"], ["port", "web"], ["wait", "web"], ["inspect", "web"]] {
        let out = host.cli(verb);
        assert!(out.stderr.contains("the daemon that has web does not run"), "{}", out.stderr);
    }
    host.cli(["rmi", "service:1"]).fails(1, &["(web) is stopped and uses it"]);
}

#[test]
fn a_name_that_is_empty_reaches_nothing() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let _daemon = Daemon::start(&host);
    host.cli(["run", "-d", "--name", "web", "service:1"]).success();
    let verbs: [&[&str]; 7] = [
        &["stop", ""],
        &["inspect", ""],
        &["logs", ""],
        &["rm", "-f", ""],
        &["start", ""],
        &["wait", ""],
        &["rmi", ""],
    ];
    for verb in verbs {
        let out = host.cli(verb);
        assert!(out.stderr.contains("is empty"), "{verb:?}: {}", out.stderr);
    }
    host.cli(["stop", "--all", "web"]).fails(125, &["cannot be used with"]);
    host.cli(["logs", "nobody"]).fails(127, &["No such container: nobody", "mote ps --all"]);
    assert_eq!(host.cli(["ps", "--format", "{{.State}}"]).success().stdout, "running\n");
}

#[test]
fn what_means_nothing_is_no_part_of_a_description() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let _daemon = Daemon::start(&host);
    let create: [(&[&str], &str); 7] = [
        (&["--memory-reservation", "20g"], "above the memory limit"),
        (&["--health-cmd", "check", "--health-interval", "0s"], "takes some time"),
        (&["--log-opt", "max-size=1k"], "64k at least"),
        (&["--log-opt", "max-file=0"], "from 1 to 1000"),
        (&["--health-interval", "1s"], "none is named"),
        (&["-m", "8m", "--memory-reservation", "16m"], "above the memory limit"),
        (&["--rm", "--restart", "always"], "exclude each other"),
    ];
    for (flags, why) in create {
        let out = host.cli([&["create"], flags, &["service:1"]].concat());
        assert!(out.code != 0 && out.stderr.contains(why), "{flags:?}: {}", out.stderr);
    }
    host.cli(["run", "--entrypoint", "other", "service:1"]).fails(127, &["no file `other`"]);
    host.cli(["create", "--entrypoint", "other", "service:1"]).fails(125, &["no file `other`"]);
    host.cli(["ps", "-f", "status=bogus"]).fails(125, &["invalid filter 'status=bogus'"]);
    host.cli(["cp", "a:/x", "b:/x"]).fails(125, &["from container to container"]);
    let mut client = Client::connect(&host.path("state/mote.sock"));
    let twice = r#"{"Image":"service:1","HostConfig":{"PortBindings":{
        "80/tcp":[{"HostPort":"8080"}],"81/tcp":[{"HostPort":"8080"}]}}}"#;
    let (status, said) = client.attempt("POST", "/containers/create", twice).expect("an answer");
    assert!(status == 400 && said.contains("published twice"), "{status} {said}");
    let network = r#"{"Image":"service:1","NetworkingConfig":{"EndpointsConfig":{"front":{}}}}"#;
    let (status, said) = client.attempt("POST", "/containers/create", network).expect("an answer");
    assert!(status == 501 && said.contains("network `front`"), "{status} {said}");
    host.cli(["run", "-l", "a=b", "service:1"]).fails(125, &["--label", "add -d"]);
    let call = ["--invoke", "add(1,2)", "service:1", "extra"];
    host.cli([&["create"], &call[..]].concat()).fails(125, &["arguments of its own"]);
    host.cli([&["run"], &call[..]].concat()).fails(125, &["arguments of its own"]);
    host.cli(["create", "--dir", "missing", "service:1"]).fails(125, &["is not there"]);
    assert_eq!(host.cli(["volume", "ls", "-q"]).success().stdout, "", "--dir names no volume");
    host.cli(["create", "--name", "deaf", "service:1"]).success();
    host.cli(["start", "-a", "-i", "deaf"]).fails(125, &["made without -i"]);
    host.cli(["exec", "-e", "=x", "deaf", "check"]).fails(125, &["is not a variable"]);
    host.cli(["create", "--name", "small", "service:1"]).success();
    host.cli(["update", "-m", "1", "small"]).fails(1, &["starts with 64KiB of memory"]);
    // Docker's own clients write these for nothing.
    client.call("GET", "/containers/json?limit=-1&all=1", "");
    let nulls = r#"{"Image":"service:1","Healthcheck":{"Test":["CMD","check"],"Interval":null}}"#;
    client.call("POST", "/containers/create", nulls);
}
