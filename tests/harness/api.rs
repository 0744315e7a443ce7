//! The least of a client of the daemon's API: one connection, one request after another.

#![allow(dead_code, reason = "tests and benchmarks each use a part")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// One connection to a daemon.
pub struct Client {
    socket: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    pub fn connect(socket: &Path) -> Client {
        let stream = BufReader::new(UnixStream::connect(socket).expect("it answers"));
        Client { socket: socket.to_owned(), stream }
    }

    pub fn again(&self) -> Client {
        Client::connect(&self.socket)
    }

    /// Sends a request, and returns the body of its answer, which has to be a success.
    pub fn call(&mut self, method: &str, path: &str, body: &str) -> String {
        let (status, text) = self.attempt(method, path, body).expect("an answer");
        assert!((200..300).contains(&status), "{method} {path}: {status} {text}");
        text
    }

    /// Sends a request, and returns the status and the body of its answer, if one comes.
    pub fn attempt(&mut self, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
        self.send(method, path, body, "")?;
        let (status, length) = self.head()?;
        let mut bytes = Vec::new();
        match length {
            Some(length) => {
                bytes.resize(length, 0);
                self.stream.read_exact(&mut bytes)?;
            }
            None => self.chunks(&mut bytes)?,
        }
        Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn send(&mut self, method: &str, path: &str, body: &str, more: &str) -> io::Result<()> {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: mote\r\nContent-Length: {length}\r\n{more}\r\n{body}"
        );
        self.stream.get_mut().write_all(request.as_bytes())
    }

    /// The status and the length of an answer's body; none if that comes in chunks.
    fn head(&mut self) -> io::Result<(u16, Option<usize>)> {
        let (mut status, mut length) = (0, Some(0));
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let lower = line.trim().to_ascii_lowercase();
            if lower.is_empty() {
                return Ok((status, length));
            } else if let Some(rest) = lower.strip_prefix("http/1.1 ") {
                status = rest[..3].parse().expect("a status");
            } else if let Some(rest) = lower.strip_prefix("content-length: ") {
                length = Some(rest.parse().expect("a length"));
            } else if lower == "transfer-encoding: chunked" {
                length = None;
            }
        }
    }

    fn chunks(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let broken = |_| io::Error::from(io::ErrorKind::UnexpectedEof);
            let length = usize::from_str_radix(line.trim(), 16).map_err(broken)?;
            let start = bytes.len();
            bytes.resize(start + length + 2, 0);
            self.stream.read_exact(&mut bytes[start..])?;
            bytes.truncate(start + length);
            if length == 0 {
                return Ok(());
            }
        }
    }

    /// Makes a container, and returns its id.
    pub fn create(&mut self, image: &str, more: &str) -> String {
        let body = format!(r#"{{"Image":"{image}"{more}}}"#);
        let made = self.call("POST", "/containers/create", &body);
        let made: serde_json::Value = serde_json::from_str(&made).expect("JSON");
        made["Id"].as_str().expect("an id").to_owned()
    }

    /// Takes the connection over for what a container prints.
    pub fn attach(mut self, id: &str) -> BufReader<UnixStream> {
        let path = format!("/containers/{id}/attach?stream=1&stdout=1");
        let upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n";
        self.send("POST", &path, "", upgrade).expect("asked");
        assert_eq!(self.head().expect("an answer").0, 101);
        self.stream
    }
}
