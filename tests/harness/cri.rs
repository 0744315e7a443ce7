//! Kubernetes' container runtime interface, as kubelet speaks it: gRPC through curl, and its messages by
//! hand, since a test needs few of their fields (cri-api's `api.proto`, `runtime.v1`).

use std::path::PathBuf;
use std::process::Command;

/// A client of a containerd's CRI.
pub struct Cri {
    socket: PathBuf,
    folder: tempfile::TempDir,
}

/// What stands in a field of a message.
#[derive(Debug, Clone)]
pub enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

impl From<u64> for Field {
    fn from(number: u64) -> Field {
        Field::Number(number)
    }
}

impl From<&str> for Field {
    fn from(text: &str) -> Field {
        Field::Bytes(text.as_bytes().to_vec())
    }
}

impl From<Message> for Field {
    fn from(message: Message) -> Field {
        Field::Bytes(message.0)
    }
}

/// A protobuf message, as it is sent.
#[derive(Debug, Clone, Default)]
pub struct Message(Vec<u8>);

impl Message {
    pub fn new() -> Message {
        Message::default()
    }

    /// Adds a field by its number.
    pub fn with(mut self, number: u64, field: impl Into<Field>) -> Message {
        match field.into() {
            Field::Number(value) => {
                self.varint(number << 3);
                self.varint(value);
            }
            Field::Bytes(bytes) => {
                self.varint(number << 3 | 2);
                self.varint(bytes.len() as u64);
                self.0.extend(bytes);
            }
        }
        self
    }

    /// Adds an entry of a map of texts.
    pub fn with_entry(self, number: u64, key: &str, value: &str) -> Message {
        self.with(number, Message::new().with(1, key).with(2, value))
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// The fields of an answer: numbers, and bytes.
    fn fields(&self) -> Vec<(u64, Field)> {
        let (mut rest, mut fields) = (self.0.as_slice(), Vec::new());
        while !rest.is_empty() {
            let tag = take_varint(&mut rest);
            let field = match tag & 7 {
                0 => Field::Number(take_varint(&mut rest)),
                2 => {
                    let length = take_varint(&mut rest) as usize;
                    let (bytes, after) = rest.split_at(length);
                    rest = after;
                    Field::Bytes(bytes.to_vec())
                }
                kind => panic!("a field of kind {kind}"),
            };
            fields.push((tag >> 3, field));
        }
        fields
    }

    /// A text of an answer; empty where there is none.
    pub fn text(&self, number: u64) -> String {
        let found = self.fields().into_iter().find(|(one, _)| *one == number);
        match found {
            Some((_, Field::Bytes(bytes))) => String::from_utf8_lossy(&bytes).into_owned(),
            _ => String::new(),
        }
    }

    /// A number of an answer; 0 where there is none.
    pub fn number(&self, number: u64) -> u64 {
        let found = self.fields().into_iter().find(|(one, _)| *one == number);
        match found {
            Some((_, Field::Number(value))) => value,
            _ => 0,
        }
    }

    /// A message within an answer.
    pub fn message(&self, number: u64) -> Message {
        let found = self.fields().into_iter().find(|(one, _)| *one == number);
        match found {
            Some((_, Field::Bytes(bytes))) => Message(bytes),
            _ => Message::default(),
        }
    }
}

fn take_varint(rest: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (first, after) = rest.split_first().expect("a whole number");
        *rest = after;
        value |= u64::from(first & 0x7f) << shift;
        shift += 7;
        if first & 0x80 == 0 {
            return value;
        }
    }
}

impl Cri {
    pub fn at(socket: PathBuf) -> Cri {
        Cri { socket, folder: tempfile::tempdir().expect("a folder") }
    }

    /// Calls a method of the runtime's service; the error is gRPC's message.
    pub fn call(&self, method: &str, request: Message) -> Result<Message, String> {
        let path = |name: &str| self.folder.path().join(name);
        // gRPC over HTTP/2: a byte that says that it is not packed, and the length.
        let mut body = vec![0];
        body.extend((request.0.len() as u32).to_be_bytes());
        body.extend(request.0);
        std::fs::write(path("request"), body).expect("written");
        std::fs::write(path("answer"), "").expect("written");
        let done = Command::new("curl")
            .args(["--silent", "--show-error", "--http2-prior-knowledge", "--max-time", "60"])
            .arg("--unix-socket")
            .arg(&self.socket)
            .arg("--dump-header")
            .arg(path("head"))
            .arg("--output")
            .arg(path("answer"))
            .args(["--header", "content-type: application/grpc", "--header", "te: trailers"])
            .arg("--data-binary")
            .arg(format!("@{}", path("request").display()))
            .arg(format!("http://localhost/runtime.v1.RuntimeService/{method}"))
            .status();
        assert!(done.expect("curl is missing: tests/run installs it").success(), "{method}");
        let head = std::fs::read_to_string(path("head")).expect("a head");
        let line = |name: &str| {
            head.lines().rev().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim()
        };
        if line("grpc-status:") != "0" {
            return Err(line("grpc-message:").to_owned());
        }
        let answer = std::fs::read(path("answer")).expect("an answer");
        Ok(Message(answer.get(5..).unwrap_or_default().to_vec()))
    }
}
