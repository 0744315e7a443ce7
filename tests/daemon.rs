//! The daemon through mote's own command: it starts when it is needed, keeps what it promised, and
//! starts again what is to run.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use crate::docker::SERVICE;
use crate::harness::{Client, Daemon, Host, Reply, Unruly, guest};

fn inspect(host: &Host, name: &str, format: &str) -> String {
    host.cli(["inspect", "--format", format, name]).success().stdout.trim().to_owned()
}

/// Waits, by what the daemon says happens, until a container is as a template shows it.
fn until(host: &Host, name: &str, (format, wanted): (&str, &str), act: impl FnOnce()) {
    let filter = format!("container={name}");
    let args = ["events", "--since", "1h", "--filter", filter.as_str(), "--format", "{{.Action}}"];
    let mut events = host.command(args).stdout(Stdio::piped()).spawn().expect("mote");
    let mut lines = BufReader::new(events.stdout.take().expect("a pipe")).lines();
    act();
    while inspect(host, name, format) != wanted {
        lines.next().expect("something happens").expect("text");
    }
    events.kill().expect("ended");
    events.wait().expect("ended");
}

#[test]
fn a_detached_run_starts_the_daemon_and_every_verb_works() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    host.cli(["logs", "web"]).fails(127, &["no daemon runs", "mote daemon"]);
    let _end = EndsDaemon(&host);
    let id = host.cli(["run", "-d", "--name", "web", "-m", "16m", "service:1"]).success().stdout;
    let id = id.trim();
    let listed = host.cli(["ps", "--format", "{{.Names}} {{.State}} {{.Host}}"]).success();
    assert_eq!(listed.stdout, "web running daemon\n");
    assert_eq!(host.cli(["logs", "web"]).success().stdout, "ready\n");
    host.cli(["pause", "web"]).success();
    host.cli(["unpause", "web"]).success();
    host.cli(["update", "--memory", "8m", "--restart", "always", "web"]).success();
    assert_eq!(
        inspect(&host, "web", "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.Memory}}"),
        "always 8388608"
    );
    assert_eq!(host.cli(["exec", "web", "add", "2", "3"]).success().stdout, "5\n");
    let stats = host.cli(["stats", "--format", "{{.Name}} {{.MemoryLimit}}", &id[..6]]).success();
    assert_eq!(stats.stdout, "web 8388608\n");
    host.cli(["rename", "web", "site"]).success();
    host.cli(["restart", "site"]).success();
    host.cli(["rm", "site"]).fails(1, &["stop the container"]);
    host.cli(["stop", "site"]).success();
    assert_eq!(host.cli(["wait", "site"]).success().stdout, "143\n");
    host.cli(["create", "--name", "twin", "service:1"]).success();
    host.cli(["create", "--name", "twin", "service:1"]).fails(125, &["already in use"]);
    host.cli(["prune"]).success();
    assert_eq!(host.cli(["ps", "-aq"]).success().stdout, "");
}

/// Ends the daemon that a command started.
struct EndsDaemon<'a>(&'a Host);

impl Drop for EndsDaemon<'_> {
    fn drop(&mut self) {
        self.0.cli(["daemon", "stop"]);
    }
}

#[test]
fn a_daemon_that_a_command_started_is_stopped_by_another() {
    let host = Host::new();
    host.cli(["daemon", "stop"]).fails(127, &["no daemon runs"]);
    host.import("service:1", SERVICE);
    host.cli(["run", "-d", "--name", "web", "--restart", "always", "service:1"]).success();
    host.cli(["daemon", "stop"]).success();
    assert!(!host.path("state/mote.sock").exists());
    let listed = host.cli(["ps", "-a", "--format", "{{.Names}} {{.Status}}"]).success();
    assert_eq!(listed.stdout, "web Exited (143)\n");
}

#[test]
fn attached_starts_end_with_the_guests_code() {
    let host = Host::new();
    host.cli(["import", &guest("exit.p1"), "exit:1"]).success();
    host.cli(["import", &guest("cat.p1"), "cat:1"]).success();
    let _daemon = Daemon::start(&host);
    host.cli(["create", "--name", "seven", "exit:1", "7"]).success();
    assert_eq!(host.cli(["start", "--attach", "seven"]).code, 7);
    host.cli(["create", "-i", "--name", "cat", "cat:1"]).success();
    let echoed = host.cli_with_input(&["start", "--attach", "-i", "cat"], "typed\n");
    assert_eq!(echoed.stdout, "typed\n");
}

#[test]
fn what_is_to_run_runs_again_after_a_crash_and_nothing_else() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let daemon = Daemon::start(&host);
    let run = |name: &str, more: &[&str]| {
        host.cli([&["run", "-d", "--name", name], more, &["service:1"]].concat()).success();
    };
    run("always", &["--restart", "always"]);
    run("once", &[]);
    run("stopped", &["--restart", "unless-stopped"]);
    run("kept", &["--restart", "unless-stopped"]);
    run("gone", &["--rm"]);
    host.cli(["stop", "stopped"]).success();
    daemon.kill();
    let listed = host.cli(["ps", "--all", "--format", "{{.Names}} {{.State}}"]).success();
    assert!(listed.stdout.contains("always lost"), "{}", listed.stdout);
    let _daemon = Daemon::start(&host);
    for name in ["always", "kept"] {
        until(&host, name, ("{{.State.Status}}", "running"), || {});
        assert_eq!(inspect(&host, name, "{{.RestartCount}}"), "1", "{name}");
    }
    assert_eq!(inspect(&host, "once", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
    assert_eq!(inspect(&host, "once", "{{.Mote.Reason}}"), "was lost with its host");
    assert_eq!(inspect(&host, "stopped", "{{.State.Status}}"), "exited");
    until_gone(&host, "gone");
    let second = host.command(["daemon"]).output().expect("mote");
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("another daemon runs the containers"), "{said}");
}

/// A container that is to go at its end goes by itself.
fn until_gone(host: &Host, name: &str) {
    host.cli(["wait", "--condition", "removed", name]);
    let listed = host.cli(["ps", "-a", "--format", "{{.Names}}"]).success().stdout;
    assert!(!listed.lines().any(|other| other == name), "{listed}");
}

#[test]
fn a_daemon_that_is_told_to_end_leaves_nothing_but_records() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let daemon = Daemon::start(&host);
    let run = ["run", "-d", "--name", "web", "--restart", "always", "--tmpfs", "/tmp", "service:1"];
    host.cli(run).success();
    drop(daemon);
    assert_eq!(host.left("root/scratch"), Vec::<String>::new());
    assert!(!host.path("state/mote.sock").exists());
    let listed = host.cli(["ps", "-a", "--format", "{{.Names}} {{.Status}}"]).success();
    assert_eq!(listed.stdout, "web Exited (143)\n");
    let _daemon = Daemon::start(&host);
    until(&host, "web", ("{{.State.Status}}", "running"), || {});
}

#[test]
fn a_failing_container_is_restarted_so_often_and_no_more() {
    let host = Host::new();
    host.cli(["import", &guest("exit.p1"), "exit:1"]).success();
    let _daemon = Daemon::start(&host);
    host.cli(["create", "--name", "bad", "--restart", "on-failure:2", "exit:1", "3"]).success();
    until(&host, "bad", ("{{.RestartCount}} {{.State.Status}}", "2 exited"), || {
        host.cli(["start", "bad"]).success();
    });
    assert_eq!(inspect(&host, "bad", "{{.State.ExitCode}}"), "3");
    assert_eq!(host.cli(["logs", "bad"]).code, 0);
}

#[test]
fn an_unhealthy_container_is_restarted() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let _daemon = Daemon::start(&host);
    let health = ["--health-cmd", "broken", "--health-interval", "100ms", "--health-retries", "2"];
    let create = [
        &["create", "--name", "ill", "--health-on-failure", "restart"],
        &health[..],
        &["service:1"],
    ];
    host.cli(create.concat()).success();
    let filter =
        ["events", "--filter", "container=ill", "--since", "1h", "--format", "{{.Action}}"];
    let mut events = host.command(filter).stdout(Stdio::piped()).spawn().expect("mote");
    let lines = BufReader::new(events.stdout.take().expect("a pipe")).lines();
    host.cli(["start", "ill"]).success();
    let mut told: Vec<String> = Vec::new();
    for line in lines.map(|line| line.expect("text")) {
        let end = line == "start" && told.len() > 2;
        told.push(line);
        if end {
            break;
        }
    }
    events.kill().expect("ended");
    events.wait().expect("ended");
    assert_eq!(told, ["create", "start", "health_status: unhealthy", "die", "start"]);
    // Pauses grow, so that it is not for ever started anew.
    assert_ne!(inspect(&host, "ill", "{{.RestartCount}}"), "0");
    host.cli(["create", "--health-on-failure", "kill", "service:1"]).fails(125, &["none is named"]);
}

#[test]
fn what_was_found_of_a_container_that_was_stopped_for_it_stays_to_be_seen() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let _daemon = Daemon::start(&host);
    let check = ["--health-cmd", "broken", "--health-interval", "100ms", "--health-retries", "2"];
    let create = ["create", "--name", "ill", "--health-on-failure", "kill"];
    host.cli([&create, &check[..], &["service:1"]].concat()).success();
    until(&host, "ill", ("{{.State.Status}}", "exited"), || {
        host.cli(["start", "ill"]).success();
    });
    assert_eq!(inspect(&host, "ill", "{{.State.Health.FailingStreak}}"), "2");
    assert_eq!(inspect(&host, "ill", "{{.Mote.Detail}}"), "it was unhealthy");
}

#[test]
fn a_log_tells_what_a_call_returned_and_why_a_run_ended() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let _daemon = Daemon::start(&host);
    let run = |name: &str, call: &str| {
        host.cli(["create", "--name", name, "--invoke", call, "service:1"]).success();
        host.cli(["start", "-a", name])
    };
    assert_eq!(run("sum", "add(2,3)").success().stdout, "5\n");
    assert_eq!(host.cli(["logs", "sum"]).success().stdout, "5\n");
    run("trap", "broken()").fails(134, &["trap trapped: wasm trap: wasm `unreachable`"]);
    let said = host.cli(["logs", "trap"]).success().stderr;
    assert!(said.contains("trap trapped: wasm trap: wasm `unreachable`"), "{said}");
    let refused = host.cli(["run", "-d", "--invoke", "nosuch()", "service:1"]);
    let refused = refused.fails(125, &["nosuch"]);
    assert!(!refused.stderr.contains("memory"), "a memory is no function: {}", refused.stderr);
}

#[test]
fn a_record_that_cannot_be_read_is_seen_and_can_be_removed() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let daemon = Daemon::start(&host);
    let run = ["run", "-d", "--name", "web", "-v", "kept:/data", "service:1"];
    let id = host.cli(run).success().stdout.trim().to_owned();
    daemon.kill();
    let database = rusqlite::Connection::open(host.path("root/containers.db")).expect("opened");
    database.execute("UPDATE containers SET record = '{'", []).expect("damaged");
    drop(database);
    let _daemon = Daemon::start(&host);
    let listed = host.cli(["ps", "-a", "--format", "{{.Names}} {{.State}}"]).success().stdout;
    assert_eq!(listed, format!("{} dead\n", &id[..12]));
    host.cli(["start", &id[..12]]).fails(1, &["cannot be read", "rm --force"]);
    host.cli(["prune", "--volumes"]).fails(125, &["what it needs is not known"]);
    host.cli(["rm", "--force", &id]).success();
    assert_eq!(host.cli(["ps", "-aq"]).success().stdout, "");
    assert_eq!(host.cli(["prune", "--volumes"]).success().stdout, "kept\n");
}

#[test]
fn a_containers_address_tells_how_it_is() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    // It answers well three times, and then not.
    let server = Unruly::start(|_, asked| match asked {
        0..3 => Reply::ok("fine"),
        _ => Reply::status(503),
    });
    let _daemon = Daemon::start(&host);
    let url = format!("http://{}/healthz", server.address());
    let check =
        ["--health-http", url.as_str(), "--health-interval", "100ms", "--health-retries", "1"];
    let create =
        [&["create", "--name", "web", "--health-on-failure", "stop"], &check[..], &["service:1"]];
    host.cli(create.concat()).success();
    until(&host, "web", ("{{.State.Status}}", "exited"), || {
        host.cli(["start", "web"]).success();
    });
    let told = ["events", "--since", "1h", "--until", "0s", "--filter", "event=health_status"];
    let told = host.cli([&told[..], &["--format", "{{.Action}}"]].concat()).success().stdout;
    assert_eq!(told, "health_status: healthy\nhealth_status: unhealthy\n");
    host.cli(["create", "--health-http", "ftp://x", "service:1"]).fails(125, &["http://ADDRESS"]);
}

#[test]
fn a_guest_that_listens_for_its_end_has_time_for_it() {
    let host = Host::new();
    host.cli(["import", &guest("cat.p1"), "cat:1"]).success();
    let _daemon = Daemon::start(&host);
    let run = [
        "run",
        "-d",
        "-i",
        "--name",
        "cat",
        "--stop-grace",
        "stdin",
        "--restart",
        "always",
        "cat:1",
    ];
    host.cli(run).success();
    host.cli(["stop", "cat"]).success();
    // It ended of itself, with its own code, and was not started again.
    assert_eq!(inspect(&host, "cat", "{{.State.Status}} {{.State.ExitCode}}"), "exited 0");
}

#[test]
fn what_does_not_fit_is_refused_with_who_has_the_rest() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let config = host.file("config.toml", "[daemon]\nmemory = \"100m\"");
    let _daemon = Daemon::start_with(&host, &["--config", &config]);
    host.cli(["create", "--name", "large", "-m", "80m", "service:1"]).success();
    let refused = host.cli(["create", "-m", "30m", "service:1"]);
    refused.fails(125, &["20MiB of memory left", "large (80MiB)"]);
    host.cli(["create", "-m", "30m", "--memory-reservation", "10m", "service:1"]).success();
    host.cli(["update", "-m", "95m", "large"]).fails(1, &["left"]);
    let refusals = ["events", "--since", "1h", "--until", "0s", "--filter", "event=refuse"];
    let told = host.cli([&refusals[..], &["--format", "{{.Actor.Attributes.reason}}"]].concat());
    assert!(told.success().stdout.contains("large (80MiB)"));
    host.cli(["rm", "large"]).success();
    host.cli(["create", "-m", "30m", "service:1"]).success();
}

#[test]
fn volumes_come_from_where_the_configuration_says_and_named_ones_always() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let allowed = host.folder("allowed");
    let config = host.file("config.toml", format!("[ceiling]\nvolumes = [{allowed:?}]"));
    let _daemon = Daemon::start_with(&host, &["--config", &config]);
    let run = |volume: &str| host.cli(["run", "-d", "-v", volume, "service:1"]);
    run(&format!("{allowed}/made:/data")).fails(125, &["is not there", "has to exist"]);
    host.folder("allowed/made");
    run(&format!("{allowed}/made:/data")).success();
    run("kept:/data").success();
    run(&format!("{}:/data", host.folder("other"))).fails(125, &["outside the folders"]);
    let mut client = Client::connect(&host.path("state/mote.sock"));
    let mut bind = |folder: &str| {
        let bind = host.path(folder).display().to_string();
        let body = format!(r#"{{"Image":"service:1","HostConfig":{{"Binds":["{bind}:/data"]}}}}"#);
        client.attempt("POST", "/containers/create", &body).expect("an answer").0
    };
    // Docker's own clients have a folder made that is missing, but none that is refused.
    assert_eq!((bind("allowed/new"), bind("outside")), (201, 403));
    assert!(host.path("allowed/new").exists() && !host.path("outside").exists());
}

#[test]
fn a_log_that_cannot_be_kept_keeps_no_container_down() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let daemon = Daemon::start(&host);
    host.cli(["run", "-d", "--name", "web", "--restart", "always", "service:1"]).success();
    // A file where the folder of logs should be.
    std::fs::rename(host.path("root/logs"), host.path("root/elsewhere")).expect("moved");
    host.file("root/logs", "");
    host.cli(["create", "--name", "new", "service:1"]).fails(125, &["cannot keep its log"]);
    assert_eq!(host.cli(["ps", "-a", "--format", "{{.Names}}"]).success().stdout, "web\n");
    daemon.kill();
    let _daemon = Daemon::start(&host);
    until(&host, "web", ("{{.State.Status}}", "running"), || {});
}

#[test]
fn several_commands_at_once_start_one_daemon() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let _end = EndsDaemon(&host);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| host.cli(["run", "-d", "service:1"]).success());
        }
    });
    assert_eq!(host.cli(["ps", "-q"]).success().stdout.lines().count(), 4);
}

#[test]
fn what_was_begun_is_done_also_when_its_client_goes() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let _daemon = Daemon::start(&host);
    // It does not listen for its end, so that it is waited for.
    host.cli(["run", "-d", "-i", "--name", "web", "--stop-grace", "stdin", "service:1"]).success();
    let mut stream = UnixStream::connect(host.path("state/mote.sock")).expect("it answers");
    let request =
        "POST /containers/web/stop?t=1 HTTP/1.1\r\nHost: mote\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("asked");
    until(&host, "web", ("{{.Mote.Wanted}}", "down"), || {});
    drop(stream);
    assert_eq!(host.cli(["wait", "web"]).success().stdout, "143\n");
}

#[test]
fn a_container_that_ended_is_not_said_to_restart() {
    let host = Host::new();
    host.cli(["import", &guest("exit.p1"), "exit:1"]).success();
    let _daemon = Daemon::start(&host);
    host.cli(["create", "--name", "done", "exit:1", "0"]).success();
    host.cli(["start", "-a", "done"]).success();
    host.cli(["update", "--restart", "always", "done"]).success();
    assert_eq!(inspect(&host, "done", "{{.State.Status}}"), "exited");
}

#[test]
fn files_come_out_of_containers_under_any_name() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let _daemon = Daemon::start(&host);
    let data = host.folder("data");
    let tool = host.file("data/deep/tool.sh", "#!");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&tool, executable).expect("set");
    host.cli(["run", "-d", "--name", "web", "-v", &format!("{data}:/data"), "service:1"]).success();
    let (file, folder) = (host.path("renamed").display().to_string(), host.folder("into"));
    host.cli(["cp", "web:/data/deep/tool.sh", &file]).success();
    assert_eq!(host.read("renamed"), "#!");
    host.cli(["cp", "web:/data/deep", &folder]).success();
    assert_eq!(host.read("into/deep/tool.sh"), "#!");
    let mode = std::fs::metadata(host.path("into/deep/tool.sh")).expect("there").permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o755);
    // An archive goes both ways through a pipe.
    let packed = host.command(["cp", "web:/data/deep", "-"]).output().expect("mote").stdout;
    let mut unpacking = host.command(["cp", "-", "web:/data"]);
    let mut unpacking = unpacking.stdin(Stdio::piped()).spawn().expect("mote");
    std::fs::remove_dir_all(host.path("data/deep")).expect("removed");
    unpacking.stdin.take().expect("a pipe").write_all(&packed).expect("written");
    assert!(unpacking.wait().expect("ended").success());
    assert_eq!(host.read("data/deep/tool.sh"), "#!");
    // A tree that no stack suffices for is an error, and no end of the daemon.
    let deep: std::path::PathBuf = std::iter::repeat_n("d", 900).collect();
    std::fs::create_dir_all(host.path("data").join(deep)).expect("made");
    host.cli(["cp", "web:/data", &folder]).fails(125, &["broke"]);
    // A folder that was swapped for a link leads nowhere.
    std::fs::rename(host.path("data"), host.path("moved")).expect("moved");
    std::os::unix::fs::symlink(host.path("into"), host.path("data")).expect("linked");
    host.cli(["cp", "web:/data/deep", &file]).fails(125, &["is a link"]);
}

#[test]
fn a_start_that_cannot_be_says_why() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    host.import("wants:1", r#"(module (import "acme" "thing" (func)) (func (export "_start")))"#);
    let _daemon = Daemon::start(&host);
    host.cli(["run", "-d", "--name", "w", "wants:1"]).fails(125, &["acme"]);
    assert_eq!(host.cli(["ps", "-aq"]).success().stdout, "", "what never ran is not kept");
    host.cli(["run", "-d", "none:1", "--pull", "never"]).fails(125, &["registry"]);
    host.cli(["run", "--restart", "always", "service:1"]).fails(125, &["--restart", "add -d"]);
    let file = host.file("app.wat", SERVICE);
    host.cli(["run", "-d", &file]).fails(125, &["plain file", "mote import"]);
    host.cli(["run", "-d", "./missing.wasm"]).fails(127, &["no file ./missing.wasm"]);
}

#[test]
fn metrics_are_told_in_prometheus_words() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let _daemon = Daemon::start(&host);
    host.cli(["run", "-d", "--name", "web", "-m", "16m", "service:1"]).success();
    let mut stream = UnixStream::connect(host.path("state/mote.sock")).expect("it answers");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: mote\r\nConnection: close\r\n\r\n")
        .expect("asked");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("answered");
    for line in [
        "mote_containers{state=\"running\"} 1",
        "# TYPE mote_container_cpu_seconds_total counter",
        "name=\"web\",image=\"service:1\"} 16777216",
        "mote_pool_memory_free_bytes ",
    ] {
        assert!(text.contains(line), "{line} is missing: {text}");
    }
}

#[test]
fn units_for_systemd_name_this_very_program() {
    let host = Host::new();
    let units = host.folder("units");
    host.cli(["daemon", "install", "--to", &units]).success();
    let service = host.read("units/mote.service");
    assert!(service.contains(env!("CARGO_BIN_EXE_mote")), "{service}");
    assert!(service.contains("Type=notify"), "{service}");
    let socket = host.path("state/mote.sock").display().to_string();
    assert!(host.read("units/mote.socket").contains(&format!("ListenStream={socket}")));
}

#[test]
fn a_volume_that_nobody_named_lives_until_its_container_is_removed_with_it() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let _daemon = Daemon::start(&host);
    let mut client = Client::connect(&host.path("state/mote.sock"));
    let id = client.create("service:1", r#","Volumes":{"/kept":{}}"#);
    host.cli(["start", &id]).success();
    let note = host.file("note", "kept");
    host.cli(["cp", &note, &format!("{id}:/kept/note")]).success();
    host.cli(["restart", &id]).success();
    host.cli(["cp", &format!("{id}:kept/note"), &host.path("back").display().to_string()])
        .success();
    assert_eq!(host.read("back"), "kept");
    assert_eq!(host.cli(["volume", "ls", "-q"]).success().stdout.lines().count(), 1);
    // Another that was given it keeps it.
    let volume = host.cli(["volume", "ls", "-q"]).success().stdout.trim().to_owned();
    let bind = format!(r#","HostConfig":{{"Binds":["{volume}:/data"]}}"#);
    let other = client.create("service:1", &bind);
    client.call("DELETE", &format!("/containers/{id}?force=1&v=1"), "");
    assert_eq!(host.cli(["volume", "ls", "-q"]).success().stdout.trim(), volume);
    client.call("DELETE", &format!("/containers/{other}?v=1"), "");
    assert_eq!(host.cli(["volume", "ls", "-q"]).success().stdout, "");
}

#[test]
fn what_is_copied_in_fits_into_the_space_that_was_granted() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let _daemon = Daemon::start(&host);
    let run = ["run", "-d", "--name", "web", "--tmpfs", "/t:size=1m", "service:1"];
    host.cli(run).success();
    let large = host.file("large", vec![0; 3 << 20]);
    host.cli(["cp", &large, "web:/t/"]).fails(125, &["no storage space"]);
    let small = host.file("small", "fits");
    host.cli(["cp", &small, "web:/t/"]).success();
}

#[test]
fn a_daemon_of_another_state_folder_is_not_waited_for_in_vain() {
    let host = Host::new();
    host.import("service:1", SERVICE);
    let _daemon = Daemon::start(&host);
    let elsewhere = host.folder("elsewhere");
    let refused = host.cli(["--state", &elsewhere, "run", "-d", "service:1"]);
    refused.fails(125, &["none answers at", "--state"]);
    assert!(!host.path("elsewhere/daemon.log").exists(), "no other was started");
}
