//! Pulling from the reference registry: names, credentials, what is left behind.

use crate::harness::{Auth, Client, Daemon, DockerRegistry, Host, printing_wasm, run, tool};
use std::process::Command;

fn registry_with_hello(auth: Auth) -> (Host, DockerRegistry, String) {
    let (host, registry) = (Host::new(), DockerRegistry::start(auth));
    host.file("push/hello.wasm", printing_wasm("hello from afar"));
    let folder = host.folder("push");
    let image = match auth {
        Auth::Open => {
            registry.oras_push(&folder, "hello:1", None, &["hello.wasm:application/wasm"])
        }
        Auth::Basic => {
            let image = registry.image("hello:1");
            let mut oras = Command::new("oras");
            oras.current_dir(&folder).args([
                "push",
                "--plain-http",
                "-u",
                "alice",
                "-p",
                "secret",
                &image,
            ]);
            run(oras.arg("hello.wasm:application/wasm")).success();
            image
        }
    };
    (host, registry, image)
}

#[test]
fn an_image_is_pulled_and_run_in_one_command() {
    let (host, _registry, image) = registry_with_hello(Auth::Open);
    let out = host.cli(["run", "--rm", &image]).success();
    assert_eq!(out.stdout, "hello from afar\n");
    assert_eq!(out.stderr, "", "a pipe sees no progress");
    assert_eq!(host.cli(["images", "-q"]).success().stdout.lines().count(), 1);
    assert_eq!(host.left("state/live"), Vec::<String>::new(), "nothing is left of the container");
}

#[test]
fn a_second_run_needs_no_registry() {
    let (host, registry, image) = registry_with_hello(Auth::Open);
    host.cli(["run", &image]).success();
    drop(registry);
    assert_eq!(host.cli(["run", &image]).success().stdout, "hello from afar\n");
    assert_eq!(host.cli(["run", "--pull", "never", &image]).success().stdout, "hello from afar\n");
    assert_eq!(host.cli(["run", "--pull", "newer", &image]).success().stdout, "hello from afar\n");
    host.cli(["run", "--pull", "always", &image]).fails(125, &["cannot reach registry", "hint:"]);
}

#[test]
fn what_is_not_there_is_said_with_the_next_step() {
    let (host, registry, _) = registry_with_hello(Auth::Open);
    host.cli(["run", &registry.image("nothing:1")]).fails(127, &["has no image", "mote images"]);
    host.cli(["run", "--pull", "never", "hello:1"]).fails(127, &["is not here"]);
    host.cli(["run", "127.0.0.1:1/hello"]).fails(125, &["cannot reach registry 127.0.0.1:1"]);
    host.cli(["run", "NOT A NAME"]).fails(125, &["is not a"]);
}

#[test]
fn an_image_is_pulled_by_digest_and_by_id() {
    let (host, registry, image) = registry_with_hello(Auth::Open);
    let digest = host.cli(["pull", &image]).success().stdout.trim().to_owned();
    let other = Host::new();
    let pinned = registry.image(&format!("hello@{digest}"));
    assert_eq!(other.cli(["run", &pinned]).success().stdout, "hello from afar\n");
    let wrong = registry.image(&format!("hello@sha256:{}", "0".repeat(64)));
    other.cli(["run", &wrong]).fails(127, &["has no image"]);
}

#[test]
fn credentials_are_asked_for_checked_and_kept() {
    let (host, registry, image) = registry_with_hello(Auth::Basic);
    host.cli(["run", &image]).fails(125, &["refuses this access", "mote login"]);
    let login = ["login", "-u", "alice", "--password-stdin", registry.address()];
    host.cli_with_input(&login, "wrong\n").fails(125, &["refuses this access"]);
    assert_eq!(host.left("home"), Vec::<String>::new(), "a wrong password is not kept");
    host.cli_with_input(&login, "secret\n").success();
    assert_eq!(host.cli(["run", &image]).success().stdout, "hello from afar\n");
    host.cli(["logout", registry.address()]).success();
    host.cli(["rmi", &image]).success();
    host.cli(["run", &image]).fails(125, &["refuses this access"]);
    let creds = host.cli(["run", "--creds", "alice:secret", &image]).success();
    assert_eq!(creds.stdout, "hello from afar\n");
}

#[test]
fn credentials_of_docker_and_podman_and_helpers_are_found() {
    let (host, registry, image) = registry_with_hello(Auth::Basic);
    let address = registry.address();
    let auth = tool("bash", ["-c", "printf alice:secret | base64"]);
    let entry = format!(r#"{{"auths":{{"{address}":{{"auth":"{}"}}}}}}"#, auth.trim());
    let docker = Host::new();
    docker.file("home/.docker/config.json", &entry);
    docker.cli(["pull", &image]).success();
    let podman = Host::new();
    podman.file("home/.config/containers/auth.json", &entry);
    podman.cli(["pull", &image]).success();

    let helped = Host::new();
    helped.file("home/.docker/config.json", format!(r#"{{"credHelpers":{{"{address}":"test"}}}}"#));
    let helper = helped.file(
        "bin/docker-credential-test",
        "#!/bin/sh\nread -r server || true\necho '{\"ServerURL\":\"x\",\"Username\":\"alice\",\"Secret\":\"secret\"}'\n",
    );
    run(Command::new("chmod").args(["+x", &helper])).success();
    let path =
        format!("{}:{}", helped.path("bin").display(), std::env::var("PATH").expect("a path"));
    run(helped.command(["pull", &image]).env("PATH", &path)).success();
    helped.cli(["rmi", &image]).success();
    // The daemon, which starts nothing itself, has it started.
    let daemon = Daemon::start_with_path(&helped, &path);
    let mut client = Client::connect(&helped.path("state/mote.sock"));
    let answer = client.call("POST", &format!("/images/create?fromImage={image}"), "");
    assert!(answer.contains("Digest: sha256:"), "{answer}");
    drop(daemon);
    run(&mut host.command(["pull", &image])).fails(125, &["mote login"]);
}

#[test]
fn forty_layers_arrive_whole() {
    let (host, registry) = (Host::new(), DockerRegistry::start(Auth::Open));
    let mut types = vec!["app.wasm:application/wasm".to_owned()];
    host.file("push/app.wasm", printing_wasm("one of forty"));
    for number in 0..39u8 {
        host.file(&format!("push/{number}"), vec![number; 100_000]);
        types.push(format!("{number}:application/octet-stream"));
    }
    let types: Vec<&str> = types.iter().map(String::as_str).collect();
    let image = registry.oras_push(&host.folder("push"), "many:1", None, &types);
    assert_eq!(host.cli(["run", &image]).success().stdout, "one of forty\n");
    host.cli(["system", "check"]).success();
}

#[test]
fn concurrent_pulls_share_one_download_and_all_succeed() {
    let (host, _registry, image) = registry_with_hello(Auth::Open);
    let mut children: Vec<_> =
        (0..8).map(|_| host.command(["pull", "-q", &image]).spawn().expect("started")).collect();
    for child in &mut children {
        assert!(child.wait().expect("ended").success());
    }
    host.cli(["system", "check"]).success();
    assert_eq!(host.cli(["images", "-q"]).success().stdout.lines().count(), 1);
}
