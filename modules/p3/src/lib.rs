//! A WASI 0.3 command: prints its arguments through 0.3's asynchronous standard output.
use wasip3::{cli, exports::cli::run::Guest, spawn_local, wit_stream};

struct Hello;

cli::command::export!(Hello);

impl Guest for Hello {
    async fn run() -> Result<(), ()> {
        let text = format!("hello from {}\n", cli::environment::get_arguments().join(" "));
        let (mut writer, reader) = wit_stream::new();
        spawn_local(async move {
            let unwritten = writer.write_all(text.into_bytes()).await;
            assert!(unwritten.is_empty(), "standard output closed early");
        });
        cli::stdout::write_via_stream(reader).await.map_err(|_| ())
    }
}
