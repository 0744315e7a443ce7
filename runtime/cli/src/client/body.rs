//! What a client sends along: nothing, JSON, or an archive that is sent while it is written.

use std::io::{self, Write};

use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use serde_json::Value;

/// What a client sends along.
pub(crate) enum Body {
    Nothing,
    Json(Value),
    /// An archive, written on a thread of its own while it is sent.
    Archive(Packs),
}

/// Writes an archive.
pub(crate) type Packs = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

/// How many pieces of an archive may wait to be sent, and how many bytes each has.
const PIECES: usize = 16;
const PIECE: usize = 64 << 10;

type Sent = BoxBody<Bytes, io::Error>;

impl Body {
    /// The type of what is sent, and its bytes.
    pub(super) fn sent(self) -> (&'static str, Sent) {
        let whole = |bytes: Bytes| Full::new(bytes).map_err(|never| match never {}).boxed();
        match self {
            Body::Nothing => ("application/json", whole(Bytes::new())),
            Body::Json(value) => ("application/json", whole(value.to_string().into())),
            Body::Archive(write) => {
                let (sender, body) = Channel::<Bytes, io::Error>::new(PIECES);
                tokio::task::spawn_blocking(move || send_archive(write, sender));
                ("application/x-tar", body.boxed())
            }
        }
    }
}

fn send_archive(write: Packs, sender: Sender<Bytes, io::Error>) {
    let mut pipe = io::BufWriter::with_capacity(PIECE, Pipe(sender));
    let written = write(&mut pipe).and_then(|()| pipe.flush());
    let Pipe(sender) = match pipe.into_inner() {
        Ok(pipe) => pipe,
        // The daemon takes no more, and its answer says why.
        Err(_) => return,
    };
    if let Err(error) = written {
        sender.abort(error);
    }
}

/// Where the bytes of a request are written to.
struct Pipe(Sender<Bytes, io::Error>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = tokio::runtime::Handle::current()
            .block_on(self.0.send_data(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
