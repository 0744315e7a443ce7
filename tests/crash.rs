//! `kill -9` at random moments leaves a store in which nothing is wrong.

use crate::harness::{Auth, DockerRegistry, Host, printing_wasm};

#[test]
fn a_killed_pull_leaves_nothing_wrong_a_hundred_times() {
    let (host, registry) = (Host::new(), DockerRegistry::start(Auth::Open));
    host.file("push/app.wasm", printing_wasm("still here"));
    let mut types = vec!["app.wasm:application/wasm".to_owned()];
    for number in 0..6u8 {
        host.file(&format!("push/{number}"), vec![number; 2 << 20]);
        types.push(format!("{number}:application/octet-stream"));
    }
    let types: Vec<&str> = types.iter().map(String::as_str).collect();
    let image = registry.oras_push(&host.folder("push"), "big:1", None, &types);
    // How long a whole pull takes here, so that the kills fall all over it.
    let start = std::time::Instant::now();
    host.cli(["pull", "-q", &image]).success();
    let whole = start.elapsed();
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    for round in 0..100 {
        if round % 10 == 0 {
            std::fs::remove_dir_all(host.path("root")).expect("removed");
        } else {
            host.cli(["rmi", "-f", &image]);
        }
        let mut child = host
            .command(["pull", "-q", &image])
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("started");
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        // Not to wait for something, but to choose the moment of the kill.
        std::thread::sleep(whole.mul_f64((seed >> 11) as f64 / (1u64 << 53) as f64));
        let _ = child.kill();
        child.wait().expect("ended");
        host.cli(["system", "check"]).success();
    }
    assert_eq!(host.cli(["run", "-q", &image]).success().stdout, "still here\n");
    host.cli(["system", "check"]).success();
}
