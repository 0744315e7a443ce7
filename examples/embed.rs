//! mote's crates as a library: pull an image, and run it under a policy.
//!
//! `cargo run -p mote-cli --example embed -- IMAGE STORE_DIR`

use std::path::PathBuf;

use mote_engine::{Blocking, Call, Input, Launch, Output, Process, Stdio, Terminal};
use mote_engine::{Cache, Checks, CodeKey, CompileIn, Control, Engine, Module, Profile, Terms};
use mote_image::{Overrides, Store};
use mote_registry::{Client, Settings};
use mote_spec::{Asks, Bytes, Ceiling, ImageRef, Request, decide};

type Error = Box<dyn std::error::Error>;

async fn pull_and_run(image: &ImageRef, folder: PathBuf) -> Result<String, Error> {
    let store = Store::open(&folder.join("images"))?;
    let client = Client::new(Settings::default())?;
    let stored = mote_registry::pull(&store, &client, image, None, &Default::default()).await?;
    let lease = store.lease()?;
    let artifact = mote_image::open(&store, &lease, &stored, Overrides::default())?;

    let how = (Profile::detect(), Checks::Ticks);
    let (cache, key) =
        (Cache::open(&folder.join("code"))?, CodeKey::new(artifact.code.digest(), how.0, how.1));
    let code = match cache.get(&key) {
        Some(code) => code,
        None => {
            let how_long = (&CompileIn::Here, &Terms::default());
            mote_engine::compile(&cache, &key, &artifact.code.read()?, how, how_long)?
        }
    };
    let asks = Asks::from_annotations(&artifact.annotations)?;
    let policy = decide(Request::default(), &asks, &Ceiling::of_machine(Bytes::mib(512)))?;
    let engine = Engine::new(how.0, how.1, policy.limits().bounds.stack)?;
    let module = Module::load(&engine, &code)?;
    let (call, blocking) = (Call::Main, Blocking::Never);
    let process = Process { args: artifact.args, env: Vec::new(), cwd: None, call, blocking };
    let stdio = Stdio {
        input: Input::Empty,
        output: Output::Inherit,
        error: Output::Inherit,
        terminal: Terminal::No,
    };
    let launch = Launch {
        policy: &policy,
        process,
        stdio,
        root: None,
        scratch: None,
        gauge: Default::default(),
        control: Control::new(policy.limits()).into(),
        begun: None,
        wall: None,
    };
    Ok(mote_engine::run(&engine, &module, launch).await?.status.to_string())
}

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().collect();
    let [_, image, folder] = args.as_slice() else {
        return Err("usage: embed IMAGE STORE_DIR".into());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(pull_and_run(&image.parse()?, folder.into()))?;
    println!("embed: {ended}");
    Ok(())
}
