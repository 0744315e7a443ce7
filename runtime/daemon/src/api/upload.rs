//! Takes what a client sends that may be long, for whoever reads it on a thread that may wait.

use std::io::{self, Read};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;

/// How many pieces may wait for their reader.
const AHEAD: usize = 16;
/// How much is still taken when nobody reads any more: a client reads why only when it has written.
const DRAINED: usize = 64 << 20;

/// The body of a request, as a file is read.
pub(crate) struct Upload {
    pieces: mpsc::Receiver<Result<Bytes, hyper::Error>>,
    piece: Bytes,
}

impl Upload {
    pub(crate) fn of(body: Incoming) -> Upload {
        let (sender, pieces) = mpsc::channel(AHEAD);
        tokio::spawn(pass_on(body, sender));
        Upload { pieces, piece: Bytes::new() }
    }
}

async fn pass_on(mut body: Incoming, to: mpsc::Sender<Result<Bytes, hyper::Error>>) {
    let mut drained = 0;
    while let Some(frame) = body.frame().await {
        let piece = frame.map(|frame| frame.into_data().unwrap_or_default());
        let length = piece.as_ref().map_or(DRAINED, Bytes::len);
        if to.send(piece).await.is_err() {
            drained += length;
        }
        if drained >= DRAINED {
            return;
        }
    }
}

impl Read for Upload {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece.map_err(io::Error::other)?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}
