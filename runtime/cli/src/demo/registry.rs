//! A small registry on loopback that serves what a store holds (distribution-spec, "Pulling").

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::mpsc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use mote_image::Store;
use mote_image::manifest::Descriptor;
use mote_spec::{Digest, ImageRef};
use tokio::net::TcpListener;

use crate::error::CliError;

/// A registry that serves until the process ends.
pub(crate) struct Registry {
    address: SocketAddr,
}

impl Registry {
    /// Host and port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Serves a store's images, each by the last part of its name, from a thread of its own.
pub(crate) fn serve(store: Store) -> Result<Registry, CliError> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(listen(store, &sender)),
            Err(error) => drop(sender.send(Err(error))),
        }
    });
    let failed =
        |error: std::io::Error| CliError::new(format!("cannot listen on loopback: {error}"));
    let address =
        receiver.recv().expect("the registry's thread says how it went").map_err(failed)?;
    Ok(Registry { address })
}

async fn listen(store: Store, started: &mpsc::Sender<std::io::Result<SocketAddr>>) {
    let listener = match TcpListener::bind(("127.0.0.1", 0)).await {
        Ok(listener) => listener,
        Err(error) => return drop(started.send(Err(error))),
    };
    if started.send(listener.local_addr()).is_err() {
        return;
    }
    while let Ok((connection, _)) = listener.accept().await {
        let store = store.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let response = respond(&store, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            // A client that breaks off needs no answer.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(connection), answer)
                .await;
        });
    }
}

fn respond(store: &Store, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().trim_start_matches("/v2/");
    let found = match path.split('/').collect::<Vec<_>>().as_slice() {
        [name, "manifests", key] => manifest(store, name, key),
        [_, "blobs", digest] => blob(store, digest),
        _ => None,
    };
    let status = if found.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    let (media_type, bytes) = found.unwrap_or_default();
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, media_type)
        .body(Full::from(bytes))
        .expect("the status and the headers are valid")
}

fn manifest(store: &Store, name: &str, key: &str) -> Option<(String, Vec<u8>)> {
    let image: ImageRef = format!("localhost/{name}:{key}").parse().ok()?;
    let Descriptor { media_type, digest, .. } = store.find(&image).ok()??.manifest;
    Some((media_type, store.read_small(&digest).ok()?))
}

fn blob(store: &Store, digest: &str) -> Option<(String, Vec<u8>)> {
    let digest: Digest = digest.parse().ok()?;
    Some(("application/octet-stream".to_owned(), std::fs::read(store.blob_path(&digest)).ok()?))
}
