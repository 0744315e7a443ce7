//! A containerd for benchmarks.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A containerd of its own; killed when dropped.
pub struct Containerd {
    child: Child,
    pub address: String,
}

impl Containerd {
    /// Starts one in a folder, with more variables of the environment; none if there is none here.
    pub fn start(folder: &Path, variables: &[(&str, OsString)]) -> Option<Containerd> {
        let place = folder.join("containerd");
        std::fs::create_dir(&place).ok()?;
        let config = place.join("config.toml");
        // Kubernetes' plugin wants a network that is not needed here.
        let text = "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n";
        std::fs::write(&config, text).ok()?;
        let address = place.join("c.sock").display().to_string();
        let child = Command::new("containerd")
            .arg("--config")
            .arg(&config)
            .arg("--root")
            .arg(place.join("root"))
            .arg("--state")
            .arg(place.join("state"))
            .args(["--address", &address])
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let containerd = Containerd { child, address };
        let start = Instant::now();
        let answers = || {
            let mut asked = Command::new("ctr");
            asked.args(["-a", &containerd.address, "version"]).stdout(Stdio::null());
            asked.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
        };
        while !answers() {
            if start.elapsed() > Duration::from_secs(20) {
                return None;
            }
        }
        Some(containerd)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
