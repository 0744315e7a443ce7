//! The reference registry (`docker-registry`), one process for each test that wants one.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::tool;

/// Whether the registry asks for a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    Open,
    /// User `alice`, password `secret`.
    Basic,
}

/// A running registry; stopped when dropped.
pub struct DockerRegistry {
    child: Child,
    _dir: tempfile::TempDir,
    address: String,
}

impl DockerRegistry {
    pub fn start(auth: Auth) -> DockerRegistry {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let config = dir.path().join("config.yml");
        std::fs::write(&config, configuration(dir.path(), auth)).expect("written");
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry is missing: tests/run installs it");
        let mut log = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert_ne!(log.read_line(&mut line).expect("read"), 0, "the registry ended");
            if let Some((_, rest)) = line.split_once("listening on ") {
                break rest
                    .chars()
                    .take_while(|c| c.is_ascii_digit() || ".:".contains(*c))
                    .collect();
            }
        };
        // The log has to be read on, or the registry stops when the pipe is full.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        DockerRegistry { child, _dir: dir, address }
    }

    /// The reference of an image here.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Pushes files with oras: `types` are FILE:MEDIA_TYPE, relative to `folder`.
    pub fn oras_push(
        &self,
        folder: &str,
        name: &str,
        config: Option<&str>,
        types: &[&str],
    ) -> String {
        let image = self.image(name);
        let mut command = Command::new("oras");
        command.current_dir(folder).args([
            "push",
            "--plain-http",
            "--disable-path-validation",
            &image,
        ]);
        if let Some(config) = config {
            command.args(["--config", config]);
        }
        super::run(command.args(types)).success();
        image
    }
}

fn configuration(dir: &std::path::Path, auth: Auth) -> String {
    let data = dir.join("data");
    let mut text = format!(
        "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n",
        data.display()
    );
    if auth == Auth::Basic {
        let passwords = dir.join("htpasswd");
        std::fs::write(&passwords, tool("htpasswd", ["-Bbn", "alice", "secret"])).expect("written");
        text.push_str(&format!(
            "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
            passwords.display()
        ));
    }
    text
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
