//! Pods of Wasm and native containers, as Kubernetes makes them: through containerd's CRI.

use serde_json::Value;

use crate::docker::SERVICE;
use crate::harness::{
    Blob, Containerd, Cri, Host, Image, Message, Version, guest, native_program, tar,
};
use crate::shim_processes::status_of;

/// A pod in the host's network, whose first container is native.
struct Pod<'a> {
    cri: &'a Cri,
    config: Message,
    id: String,
}

impl<'a> Pod<'a> {
    /// Runs a pod in the machine's network.
    fn run(host: &Host, cri: &'a Cri) -> Pod<'a> {
        const NODE: u64 = 2;
        Pod::run_in(host, cri, ("pod", NODE))
    }

    fn run_in(host: &Host, cri: &'a Cri, (name, network): (&str, u64)) -> Pod<'a> {
        let annotations = [("io.mote.timeout", "1h")];
        Pod::run_with(host, cri, (name, network), annotations)
    }

    fn run_with<'b>(
        host: &Host,
        cri: &'a Cri,
        (name, network): (&str, u64),
        annotations: impl IntoIterator<Item = (&'b str, &'b str)>,
    ) -> Pod<'a> {
        let metadata = Message::new().with(1, name).with(2, name).with(3, "default");
        let options = Message::new().with(1, network);
        let linux = Message::new().with(2, Message::new().with(1, options));
        let config =
            Message::new().with(1, metadata).with(3, host.folder("pods").as_str()).with(8, linux);
        let config = annotations
            .into_iter()
            .fold(config, |config, (key, value)| config.with_entry(7, key, value));
        let request = Message::new().with(1, config.clone()).with(2, "mote");
        let id = cri.call("RunPodSandbox", request).expect("a pod").text(1);
        Pod { cri, config, id }
    }

    fn create(&self, name: &str, image: &str, annotation: Option<(&str, &str)>) -> String {
        self.create_with(name, image, annotation, &[])
    }

    fn create_with(
        &self,
        name: &str,
        image: &str,
        annotation: Option<(&str, &str)>,
        command: &[&str],
    ) -> String {
        const MEMORY: u64 = 64 << 20;
        let resources = Message::new().with(1, 100_000).with(2, 50_000).with(4, MEMORY);
        let mut container = Message::new()
            .with(1, Message::new().with(1, name))
            .with(2, Message::new().with(1, image))
            .with(11, format!("{name}.log").as_str())
            .with(15, Message::new().with(1, resources));
        if let Some((key, value)) = annotation {
            container = container.with_entry(10, key, value);
        }
        for word in command {
            container = container.with(3, *word);
        }
        self.create_as(container)
    }

    /// Makes a container as a `ContainerConfig` says.
    fn create_as(&self, container: Message) -> String {
        let request = Message::new()
            .with(1, self.id.as_str())
            .with(2, container)
            .with(3, self.config.clone());
        self.cri.call("CreateContainer", request).expect("a container").text(1)
    }

    fn call(&self, method: &str, id: &str) -> Result<Message, String> {
        self.cri.call(method, Message::new().with(1, id))
    }

    /// Runs something in a container, and returns what it printed and its code.
    fn exec(&self, id: &str, command: &[&str]) -> Result<(String, u64), String> {
        let request = Message::new().with(1, id);
        let request = command.iter().fold(request, |request, word| request.with(2, *word));
        let answer = self.cri.call("ExecSync", request.with(3, 10))?;
        Ok((answer.text(1), answer.number(3)))
    }

    /// A container's state and exit code (`ContainerStatus`).
    fn status(&self, id: &str) -> (u64, u64) {
        let status = self.call("ContainerStatus", id).expect("it is known").message(1);
        (status.number(3), status.number(7))
    }
}

const RUNNING: u64 = 1;
const EXITED: u64 = 2;

#[test]
fn a_pod_of_two_guests_and_a_sidecar_lives_as_kubelet_has_it() {
    for version in Version::ALL {
        let host = Host::new();
        let containerd = Containerd::start_with_cri(&host, version);
        let service = wat::parse_str(SERVICE).expect("it is WebAssembly");
        containerd.import_for_pods("example.test/pause:1", &native_program(), &["sleep"]);
        containerd.import_for_pods("example.test/service:1", &service, &[]);
        let eater = r#"(module (memory (export "memory") 1) (func (export "_start")
            (loop (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable)) (br 0))))"#;
        let eater = wat::parse_str(eater).expect("it is WebAssembly");
        containerd.import_for_pods("example.test/eater:1", &eater, &[]);
        let cri = containerd.cri();
        let pod = Pod::run(&host, &cri);
        let [one, two] = ["one", "two"].map(|name| {
            let id = pod.create(name, "example.test/service:1", None);
            pod.call("StartContainer", &id).expect("it starts");
            id
        });
        let sidecar = pod.create("sidecar", "example.test/pause:1", None);
        pod.call("StartContainer", &sidecar).expect("it starts");
        assert_eq!(pod.status(&one).0, RUNNING);
        assert_eq!(pod.exec(&one, &["add", "2", "3"]), Ok(("5\n".to_owned(), 0)));
        assert_eq!(pod.exec(&two, &["check"]).map(|(_, code)| code), Ok(0), "a probe");
        assert_eq!(pod.exec(&two, &["/check.wasm"]).map(|(_, code)| code), Ok(0), "a program");
        assert_eq!(pod.exec(&two, &["broken"]).map(|(_, code)| code), Ok(134));
        let said = pod.exec(&sidecar, &["/app.wasm", "beside"]);
        assert_eq!(said, Ok(("native beside\n".to_owned(), 0)));
        let missing = pod.exec(&one, &["nothing"]).expect_err("there is none");
        assert!(missing.contains("nothing is no function"), "{missing}");
        // What kubectl top, and an in-place resize, are made of.
        let memory = pod.call("ContainerStats", &one).expect("stats").message(1).message(3);
        assert_eq!(memory.message(2).number(1), 64 << 10, "its one page");
        let resources = Message::new().with(1, 100_000).with(2, 25_000).with(4, 32 << 20);
        let update = Message::new().with(1, one.as_str()).with(2, resources);
        cri.call("UpdateContainerResources", update).expect("updated");
        let eater = pod.create("eater", "example.test/eater:1", None);
        pod.call("StartContainer", &eater).expect("it starts");
        while pod.status(&eater).0 != EXITED {}
        let status = pod.call("ContainerStatus", &eater).expect("it is known").message(1);
        assert_eq!((status.number(7), status.text(10).as_str()), (137, "OOMKilled"));
        let refused = pod.create("bad", "example.test/service:1", Some(("io.mote.wrong", "1")));
        let refused = pod.call("StartContainer", &refused).expect_err("it knows no such word");
        assert!(refused.contains("io.mote.wrong is not one that mote knows"), "{refused}");
        let log = std::fs::read_to_string(host.path("pods/one.log")).expect("a log");
        assert!(log.ends_with(" stdout F ready\n"), "{log}");
        for (id, code) in [(&one, 143), (&two, 143)] {
            cri.call("StopContainer", Message::new().with(1, id.as_str()).with(2, 5))
                .expect("it ends");
            assert_eq!(pod.status(id), (EXITED, code));
            pod.call("RemoveContainer", id).expect("removed");
        }
        assert_eq!(pod.status(&sidecar).0, RUNNING, "the others go on");
        pod.call("StopPodSandbox", &pod.id).expect("it ends");
        pod.call("RemovePodSandbox", &pod.id).expect("removed");
    }
}

/// A pod's own address (`PodSandboxStatus`).
fn address(pod: &Pod<'_>) -> String {
    pod.call("PodSandboxStatus", &pod.id).expect("a pod").message(1).message(5).text(1)
}

#[test]
fn a_guest_serves_at_its_pods_address_and_its_sidecar_has_it_on_localhost() {
    const POD: u64 = 0;
    for version in Version::ALL {
        let host = Host::new();
        let containerd = Containerd::start_with_network(&host, version);
        containerd.import_for_pods("example.test/pause:1", &native_program(), &["sleep"]);
        for name in ["listen", "connect"] {
            let program = std::fs::read(guest(&format!("{name}.p2"))).expect("a guest");
            containerd.import_for_pods(&format!("example.test/{name}:1"), &program, &[]);
        }
        let cri = containerd.cri();
        let server = Pod::run_in(&host, &cri, ("server", POD));
        let started = |pod: &Pod<'_>, id: String| {
            pod.call("StartContainer", &id).expect("it starts");
            id
        };
        let listening = ["8080", "8081"].map(|port| {
            let publish = format!("{port}:{port}");
            let grant = Some(("io.mote.publish", publish.as_str()));
            let id = server.create_with(port, "example.test/listen:1", grant, &["/app.wasm", port]);
            let id = started(&server, id);
            let log = host.path(&format!("pods/{port}.log"));
            let listens =
                || std::fs::read_to_string(&log).is_ok_and(|log| log.contains("listening"));
            while !listens() {
                assert_eq!(server.status(&id).0, RUNNING, "{:?}", std::fs::read_to_string(&log));
            }
            id
        });
        let sidecar = server.create("sidecar", "example.test/pause:1", None);
        let sidecar = started(&server, sidecar);
        let asked = server.exec(&sidecar, &["/app.wasm", "ask", "8081"]);
        assert_eq!(asked, Ok(("you said hi".to_owned(), 0)), "on localhost");
        let client = Pod::run_in(&host, &cri, ("client", POD));
        let to = format!("{}:8080", address(&server));
        let ask = |name: &str, annotation| {
            let command = ["/app.wasm", &to, "hello"];
            let id = client.create_with(name, "example.test/connect:1", annotation, &command);
            let id = started(&client, id);
            while client.status(&id).0 != EXITED {}
            std::fs::read_to_string(host.path(&format!("pods/{name}.log"))).expect("a log")
        };
        let refused = ask("refused", None);
        assert!(refused.contains(&format!("{to}: PermissionDenied")), "{refused}");
        let rule = format!("tcp://{to}");
        let answered = ask("answered", Some(("io.mote.allow-net", rule.as_str())));
        assert!(answered.contains(&format!("{to}: you said hello")), "{answered}");
        for id in &listening {
            while server.status(id).0 != EXITED {}
        }
        for pod in [&server, &client] {
            pod.call("StopPodSandbox", &pod.id).expect("it ends");
            pod.call("RemovePodSandbox", &pod.id).expect("removed");
        }
    }
}

/// A manifest of `examples/kubernetes`.
fn manifest(name: &str) -> Value {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/kubernetes");
    let text = std::fs::read_to_string(format!("{folder}/{name}.yaml")).expect("an example");
    serde_norway::from_str(&text).expect("YAML")
}

/// The words of a list; none where there is no list.
fn words(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().map(|word| word.as_str().expect("a text")).collect()
}

/// A quantity of Kubernetes, as far as examples have some, in units of `unit`.
fn quantity(value: &Value, unit: (&str, u64)) -> Option<u64> {
    let text = value.as_str()?.strip_suffix(unit.0).expect("a quantity");
    Some(text.parse::<u64>().expect("a number") * unit.1)
}

/// What kubelet asks for a container of a manifest (`ContainerConfig`).
fn config_of(container: &Value) -> Message {
    let name = container["name"].as_str().expect("a name");
    let image = container["image"].as_str().expect("an image");
    let limits = &container["resources"]["limits"];
    let mut resources = Message::new();
    if let Some(quota) = quantity(&limits["cpu"], ("m", 100)) {
        resources = resources.with(1, 100_000).with(2, quota);
    }
    if let Some(memory) = quantity(&limits["memory"], ("Mi", 1 << 20)) {
        resources = resources.with(4, memory);
    }
    let mut linux = Message::new().with(1, resources);
    let context = &container["securityContext"];
    if let Some(user) = context["runAsUser"].as_u64() {
        let number = |number: u64| Message::new().with(1, number);
        let group = context["runAsGroup"].as_u64().expect("a group");
        let dropped = words(&context["capabilities"]["drop"]);
        let dropped = dropped.into_iter().fold(Message::new(), |all, one| all.with(2, one));
        assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
        assert_eq!(context["allowPrivilegeEscalation"], false);
        let context = Message::new()
            .with(1, dropped)
            .with(5, number(user))
            .with(11, 1)
            .with(12, number(group))
            // RuntimeDefault is 0, as nothing is.
            .with(15, Message::new());
        linux = linux.with(2, context);
    }
    let mut config = Message::new()
        .with(1, Message::new().with(1, name))
        .with(2, Message::new().with(1, image))
        .with(11, format!("{name}.log").as_str())
        .with(15, linux);
    for (field, list) in [(3, "command"), (4, "args")] {
        config =
            words(&container[list]).into_iter().fold(config, |all, word| all.with(field, word));
    }
    config
}

/// An image of the examples, whose entrypoint is its one program.
fn image_of(path: &str, program: &[u8], entrypoint: &[&str]) -> Image {
    let layer = tar(&[(path, program), ("etc/hosts", b"127.0.0.1 localhost\n")]);
    let layer = Blob::new("application/vnd.oci.image.layer.v1.tar", layer);
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "config": { "Entrypoint": entrypoint, "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [layer.digest()] },
    });
    let config = Blob::new("application/vnd.oci.image.config.v1+json", config.to_string());
    Image { config, layers: vec![layer] }
}

#[test]
fn the_examples_for_kubernetes_run_as_they_are() {
    const POD: u64 = 0;
    let class = manifest("runtimeclass");
    assert_eq!((&class["kind"], &class["handler"]), (&"RuntimeClass".into(), &"mote".into()));
    for version in Version::ALL {
        let host = Host::new();
        let containerd = Containerd::start_with_network(&host, version);
        containerd.import_for_pods("example.test/pause:1", &native_program(), &["sleep"]);
        let import = |name: &str, image| containerd.import_image("k8s.io", name, &image);
        let guest = |name: &str| std::fs::read(guest(name)).expect("a guest");
        let service = wat::parse_str(SERVICE).expect("it is WebAssembly");
        import(
            "registry.example/hello:1",
            image_of("hello.wasm", &guest("hello.p1"), &["/hello.wasm"]),
        );
        import(
            "registry.example/listen:1",
            image_of("listen.wasm", &guest("listen.p2"), &["/listen.wasm"]),
        );
        import(
            "registry.example/service:1",
            image_of("service.wasm", &service, &["/service.wasm"]),
        );
        import("docker.io/library/busybox:1.36", image_of("bin/sleep", &native_program(), &[]));
        let cri = containerd.cri();
        let run = |manifest: &Value| {
            let (metadata, spec) = (&manifest["metadata"], &manifest["spec"]);
            assert_eq!(&spec["runtimeClassName"], &class["metadata"]["name"]);
            let annotations = metadata["annotations"].as_object().into_iter().flatten();
            let annotations =
                annotations.map(|(key, value)| (key.as_str(), value.as_str().expect("a text")));
            let name = spec["containers"][0]["name"].as_str().expect("a name");
            let pod = Pod::run_with(&host, &cri, (name, POD), annotations);
            let containers = spec["containers"].as_array().expect("containers").iter();
            let started = containers.map(|container| {
                let id = pod.create_as(config_of(container));
                pod.call("StartContainer", &id).expect("it starts");
                id
            });
            let started: Vec<String> = started.collect();
            (pod, started)
        };
        let log = |name: &str| {
            std::fs::read_to_string(host.path(&format!("pods/{name}.log"))).unwrap_or_default()
        };
        let (hello_pod, hello) = run(&manifest("pod"));
        while hello_pod.status(&hello[0]).0 != EXITED {}
        assert_eq!(hello_pod.status(&hello[0]), (EXITED, 0), "{}", log("hello"));
        assert!(log("hello").contains("hello from /hello.wasm kubernetes"), "{}", log("hello"));

        let deployment = manifest("deployment");
        let template = &deployment["spec"]["template"];
        assert_eq!(template["metadata"]["labels"], deployment["spec"]["selector"]["matchLabels"]);
        let (service_pod, service) = run(template);
        for probe in ["livenessProbe", "readinessProbe"] {
            let command = &template["spec"]["containers"][0][probe]["exec"]["command"];
            let probed = service_pod.exec(&service[0], &words(command)).expect("it runs");
            assert_eq!(probed.1, 0, "{probe}: {probed:?}");
        }
        // It has what its security context says, and no more.
        let tasks = containerd.ctr(["--namespace", "k8s.io", "tasks", "ls"]).success().stdout;
        let line = tasks.lines().find(|line| line.starts_with(&service[0])).expect("a task");
        let pid = line.split_whitespace().nth(1).and_then(|pid| pid.parse().ok()).expect("a pid");
        assert_eq!(status_of(pid, "Uid"), "1000");
        assert_eq!(u64::from_str_radix(&status_of(pid, "CapPrm"), 16), Ok(0));
        assert_eq!(status_of(pid, "Seccomp"), "2");

        let (mixed_pod, mixed) = run(&manifest("mixed-pod"));
        while !log("server").contains("listening") {
            assert_eq!(mixed_pod.status(&mixed[0]).0, RUNNING, "{}", log("server"));
        }
        let asked = mixed_pod.exec(&mixed[1], &["sleep", "ask", "8080"]);
        assert_eq!(asked, Ok(("you said hi".to_owned(), 0)), "on localhost");
        for pod in [hello_pod, service_pod, mixed_pod] {
            pod.call("StopPodSandbox", &pod.id).expect("it ends");
            pod.call("RemovePodSandbox", &pod.id).expect("removed");
        }
    }
}
