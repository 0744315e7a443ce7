//! The program of an image that has no files: containerd keeps it, and `mote` reads it from there.
//!
//! A process for each question, and only for such images: the shim itself speaks to no store.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use mote_spec::Digest;
use serde::Deserialize;

use crate::error::ShimError;

/// Whom to ask about a container's image.
#[derive(Debug, Clone)]
pub(crate) struct Images {
    pub(crate) mote: PathBuf,
    pub(crate) address: String,
    pub(crate) namespace: String,
}

/// A program, as its image describes it.
#[derive(Debug, Deserialize)]
pub(crate) struct Described {
    pub(crate) digest: Digest,
    title: Option<String>,
    entrypoint: Vec<String>,
}

/// How `mote` ends if there is no such image, or it is one of files.
const NOT_FOUND: i32 = 127;

impl Images {
    /// The program of a container's image, if that is all that is in it.
    pub(crate) async fn program(&self, container: &str) -> Result<Option<Described>, ShimError> {
        let mut asking = tokio::process::Command::from(self.ask(&[container]));
        let output = asking.kill_on_drop(true).output().await.map_err(not_asked)?;
        let Some(told) = answer(output)? else { return Ok(None) };
        let described = serde_json::from_slice(&told);
        described
            .map(Some)
            .map_err(|source| ShimError::Json { what: "what mote tells of the image", source })
    }

    /// The program itself. Blocks.
    pub(crate) fn read(&self, container: &str, digest: &Digest) -> Result<Vec<u8>, ShimError> {
        let mut asking = self.ask(&["--digest", &digest.to_string(), container]);
        let bytes = answer(asking.output().map_err(not_asked)?)?.unwrap_or_default();
        match mote_image::sha256(&bytes) == *digest {
            true => Ok(bytes),
            false => Err(ShimError::Invalid(format!("{digest} came damaged from containerd"))),
        }
    }

    fn ask(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.mote);
        command.args(["containerd-program", "--address", &self.address]);
        command.args(["--namespace", &self.namespace]).args(words).stdin(Stdio::null());
        command
    }
}

fn not_asked(source: std::io::Error) -> ShimError {
    ShimError::System { what: "ask mote about the image", source }
}

fn answer(output: Output) -> Result<Option<Vec<u8>>, ShimError> {
    match output.status.code() {
        Some(0) => Ok(Some(output.stdout)),
        Some(NOT_FOUND) => Ok(None),
        Some(_) | None => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(ShimError::Invalid(said.split_whitespace().collect::<Vec<_>>().join(" ")))
        }
    }
}

impl Described {
    /// The arguments of a guest that was given none: the image's own, or what it calls its program.
    pub(crate) fn args(&self) -> Vec<String> {
        if !self.entrypoint.is_empty() {
            return self.entrypoint.clone();
        }
        let title = self.title.as_deref().unwrap_or("main.wasm");
        let name = Path::new(title).file_name().map(|name| name.to_string_lossy().into_owned());
        vec![name.unwrap_or_else(|| title.to_owned())]
    }
}
