//! `mote import`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use clap::Args;
use mote_engine::{Checks, Company, Engine, Module, describe};
use mote_image::{Artifact, Code, Description, Kind, pack};
use mote_spec::{Asks, Bytes, ImageRef};

use crate::app::App;
use crate::error::CliError;
use crate::fetch;
use crate::launch;
use crate::output;
use crate::progress::Show;

/// Make an image of a .wasm or .wat file
#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// Note in the image what it asks for, such as io.mote.memory=16m
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    /// File of the program
    file: PathBuf,
    /// Name of the image
    name: ImageRef,
}

impl ImportArgs {
    pub(crate) fn exec(self, app: &App) -> Result<(), CliError> {
        let bytes = std::fs::read(&self.file).map_err(|error| {
            CliError::not_found(format!("cannot read {}: {error}", self.file.display()))
        })?;
        let wasm = fetch::wasm(bytes, &self.file.display().to_string())?;
        let mut annotations = BTreeMap::new();
        for text in &self.annotation {
            let (key, value) = text
                .split_once('=')
                .ok_or_else(|| CliError::new(format!("--annotation {text}: write KEY=VALUE")))?;
            annotations.insert(key.to_owned(), value.to_owned());
        }
        Asks::from_annotations(&annotations)?;
        let artifact = artifact(self.name.familiar(), wasm.clone());
        // Compiling shows that it is a program at all, and the first run is then quick.
        let about = Description { kind: kind(app, &artifact)?, created: now(), annotations };
        let store = app.store()?;
        let _lease = store.lease()?;
        let stored = pack(&store, &self.name, &wasm, &about)?;
        output::line(&stored.manifest.digest.to_string());
        Ok(())
    }
}

fn artifact(name: String, wasm: Vec<u8>) -> Artifact {
    Artifact {
        name,
        code: Code::from_bytes(wasm),
        args: Vec::new(),
        env: Vec::new(),
        cwd: None,
        export: None,
        annotations: BTreeMap::new(),
        rootfs: None,
    }
}

fn kind(app: &App, artifact: &Artifact) -> Result<Kind, CliError> {
    let code = launch::compiled(app, artifact, Checks::usual(Company::Nobody), Show::Progress)?;
    let engine = Engine::new(app.profile(), Checks::usual(Company::Nobody), Bytes::new(512 << 10))?;
    let about = describe(&engine, &Module::load(&engine, &code)?)?;
    Ok(match about.kind {
        mote_engine::Kind::Module => Kind::Module,
        mote_engine::Kind::Component => {
            Kind::Component { imports: about.imports, exports: about.exports }
        }
    })
}

/// The time as RFC 3339 has it, in whole seconds.
fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}
