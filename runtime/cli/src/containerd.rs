//! Reads images of a containerd: which one a container is of, and what is in its content store.
//!
//! gRPC, as much of it as three calls need (containerd's `api/services/{containers,images,content}/v1`).

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mote_image::manifest::{Document, ImageConfig, Manifest};
use mote_image::{layout, select};
use mote_spec::Digest;
use protobuf::{CodedInputStream, CodedOutputStream};
use tokio::net::UnixStream;

use crate::error::CliError;

/// A namespace of a containerd.
pub(crate) struct Containerd {
    socket: PathBuf,
    namespace: String,
    requests: SendRequest<Full<Bytes>>,
}

/// The one program of an image without a root file system.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) digest: Digest,
    /// What its image calls it.
    pub(crate) title: Option<String>,
    pub(crate) entrypoint: Vec<String>,
}

/// The largest manifest or configuration, and the largest program, in bytes.
const LARGEST_DOCUMENT: u64 = 4 << 20;
const LARGEST_PROGRAM: u64 = 512 << 20;
/// gRPC's code of what is not there.
const NOT_FOUND: &str = "5";

impl Containerd {
    pub(crate) async fn connect(socket: &Path, namespace: &str) -> Result<Containerd, CliError> {
        let failed = |why: String| {
            CliError::new(format!("cannot reach containerd at {}: {why}", socket.display()))
        };
        let stream = UnixStream::connect(socket).await;
        let stream = stream.map_err(|error| failed(error.to_string()))?;
        let (requests, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| failed(error.to_string()))?;
        tokio::spawn(connection);
        let (socket, namespace) = (socket.to_owned(), namespace.to_owned());
        Ok(Containerd { socket, namespace, requests })
    }

    /// Finds the program of a container's image.
    ///
    /// # Errors
    /// Fails as not found if the container has no image, or its image is one of files.
    pub(crate) async fn program(&mut self, container: &str) -> Result<Program, CliError> {
        let name = self.image(container).await?;
        let target = self.target(&name).await?;
        let manifest = self.manifest(&name, &target).await?;
        let config = self.document(&manifest.config.digest).await?;
        let config = ImageConfig::parse(&config).map_err(|error| {
            CliError::new(format!("the configuration of {name} cannot be read: {error}"))
        })?;
        match layout::payload(&manifest, &config) {
            Ok(layout::Payload::Layer(layer)) => Ok(Program {
                title: layer.title().map(str::to_owned),
                digest: layer.digest,
                entrypoint: config.config.entrypoint,
            }),
            Ok(layout::Payload::Rootfs(_)) => {
                Err(CliError::not_found(format!("{name} is an image of files")))
            }
            Err(error) => Err(CliError::not_found(format!("{name} cannot run here: {error}"))),
        }
    }

    /// The content of that digest.
    pub(crate) async fn content(&mut self, digest: &Digest) -> Result<Bytes, CliError> {
        self.read(digest, LARGEST_PROGRAM).await
    }

    async fn manifest(&mut self, name: &str, target: &Digest) -> Result<Manifest, CliError> {
        let bad = |error: String| CliError::new(format!("the manifest of {name}: {error}"));
        let parse = |bytes: &Bytes| Document::parse(bytes).map_err(|error| bad(error.to_string()));
        let index = match parse(&self.document(target).await?)? {
            Document::Manifest(manifest) => return Ok(manifest),
            Document::Index(index) => index,
        };
        let child = select::choose(&index, None).map_err(|error| bad(error.to_string()))?;
        match parse(&self.document(&child.digest.clone()).await?)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => Err(bad("it is an index within an index".to_owned())),
        }
    }

    /// What a container's image is called.
    async fn image(&mut self, container: &str) -> Result<String, CliError> {
        let answer = self.one("containers.v1.Containers/Get", &message(&[(1, container)])).await?;
        let name = text(&field(&field(&answer, 1), 3));
        match name.is_empty() {
            true => Err(CliError::not_found(format!("container {container} is of no image"))),
            false => Ok(name),
        }
    }

    /// The digest of what an image's name stands for.
    async fn target(&mut self, name: &str) -> Result<Digest, CliError> {
        let answer = self.one("images.v1.Images/Get", &message(&[(1, name)])).await?;
        let digest = text(&field(&field(&field(&answer, 1), 3), 2));
        digest.parse().map_err(|error| CliError::new(format!("the digest of {name}: {error}")))
    }

    async fn document(&mut self, digest: &Digest) -> Result<Bytes, CliError> {
        self.read(digest, LARGEST_DOCUMENT).await
    }

    async fn read(&mut self, digest: &Digest, most: u64) -> Result<Bytes, CliError> {
        let request = message(&[(1, &digest.to_string())]);
        let mut answer = self.call("content.v1.Content/Read", &request).await?;
        let (mut whole, mut waiting) = (Vec::new(), Vec::new());
        while let Some(frame) = answer.frame().await {
            let frame = frame.map_err(|error| self.failed(&error.to_string()))?;
            match frame.into_data() {
                Ok(data) => waiting.extend_from_slice(&data),
                Err(frame) => {
                    let trailers = frame.trailers_ref();
                    self.check(trailers.unwrap_or(&hyper::HeaderMap::new()))?;
                }
            }
            while let Some(part) = take_message(&mut waiting) {
                whole.extend_from_slice(&field(&part, 2));
            }
            if (whole.len() + waiting.len()) as u64 > most {
                return Err(CliError::new(format!("{digest} has more than {most} bytes")));
            }
        }
        match mote_image::sha256(&whole) == *digest {
            true => Ok(whole.into()),
            false => Err(CliError::new(format!("{digest} is damaged in containerd's store"))),
        }
    }

    /// Calls a method that answers with one message.
    async fn one(&mut self, method: &str, request: &[u8]) -> Result<Vec<u8>, CliError> {
        let answer = self.call(method, request).await?;
        let whole = answer.collect().await.map_err(|error| self.failed(&error.to_string()))?;
        self.check(whole.trailers().unwrap_or(&hyper::HeaderMap::new()))?;
        let mut bytes = whole.to_bytes().to_vec();
        take_message(&mut bytes).ok_or_else(|| self.failed("it answered with nothing"))
    }

    async fn call(
        &mut self,
        method: &str,
        request: &[u8],
    ) -> Result<hyper::body::Incoming, CliError> {
        let uri = format!("http://localhost/containerd.services.{method}");
        let length = u32::try_from(request.len()).unwrap_or(u32::MAX).to_be_bytes();
        let body = [&[0], &length[..], request].concat();
        let request = Request::post(uri.parse::<Uri>().unwrap_or_default())
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("containerd-namespace", &self.namespace)
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| self.failed(&error.to_string()))?;
        let answer = self.requests.send_request(request).await;
        let answer = answer.map_err(|error| self.failed(&error.to_string()))?;
        // An error that comes without an answer is in its head.
        self.check(answer.headers())?;
        Ok(answer.into_body())
    }

    fn check(&self, head: &hyper::HeaderMap) -> Result<(), CliError> {
        let value = |name| head.get(name).and_then(|value| value.to_str().ok());
        match value("grpc-status") {
            None | Some("0") => Ok(()),
            Some(NOT_FOUND) => {
                Err(CliError::not_found(value("grpc-message").unwrap_or("not found")))
            }
            Some(code) => {
                let said = value("grpc-message").unwrap_or("it does not say why");
                Err(self.failed(&format!("{said} (gRPC status {code})")))
            }
        }
    }

    fn failed(&self, why: &str) -> CliError {
        CliError::new(format!("containerd at {} fails: {why}", self.socket.display()))
    }
}

/// Takes the first message off a stream of them: a byte that says that it is not packed, its length, and
/// itself (gRPC over HTTP/2, "Length-Prefixed-Message").
fn take_message(from: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = from.get(1..5)?.try_into().ok().map(u32::from_be_bytes)?;
    let end = usize::try_from(length).ok()?.checked_add(5)?;
    if from.len() < end {
        return None;
    }
    let rest = from.split_off(end);
    Some(std::mem::replace(from, rest).split_off(5))
}

/// A message of texts by their numbers.
fn message(fields: &[(u32, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut output = CodedOutputStream::vec(&mut bytes);
    for (number, value) in fields {
        output.write_string(*number, value).expect("memory takes it");
    }
    output.flush().expect("memory takes it");
    drop(output);
    bytes
}

/// The bytes, text or message in a field; empty where there is none, or what is there is no message.
fn field(message: &[u8], number: u32) -> Vec<u8> {
    let find = || -> protobuf::Result<Vec<u8>> {
        let mut input = CodedInputStream::from_bytes(message);
        while let Some(tag) = input.read_raw_tag_or_eof()? {
            match (tag >> 3, tag & 7) {
                (found, 2) if found == number => return input.read_bytes(),
                (_, 0) => drop(input.read_raw_varint64()?),
                (_, 1) => drop(input.read_fixed64()?),
                (_, 5) => drop(input.read_fixed32()?),
                (_, _) => drop(input.read_bytes()?),
            }
        }
        Ok(Vec::new())
    };
    find().unwrap_or_default()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_are_written() {
        let inner = message(&[(2, "sha256:x")]);
        let outer = [&[0x08, 0x96, 0x01, 3 << 3 | 2, inner.len() as u8][..], &inner].concat();
        assert_eq!(text(&field(&field(&outer, 3), 2)), "sha256:x");
        assert!(field(&outer, 9).is_empty());
        assert!(field(&[0xff; 20], 1).is_empty(), "no message at all");
        assert!(field(&[0x0a, 0x7f, 1], 1).is_empty(), "cut short");
    }

    #[test]
    fn a_stream_is_cut_into_messages() {
        let mut stream = vec![0, 0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 1];
        assert_eq!(take_message(&mut stream), Some(vec![7, 8]));
        assert_eq!(take_message(&mut stream), None, "not all of it has come");
        stream.push(9);
        assert_eq!(take_message(&mut stream), Some(vec![9]));
        assert_eq!(take_message(&mut stream), None);
    }
}
