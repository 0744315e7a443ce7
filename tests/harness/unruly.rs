//! A registry that misbehaves as a test tells it to: plain sockets, so that anything can be sent.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One request that was received.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub headers: HashMap<String, String>,
}

/// What to answer.
#[derive(Clone, Default)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Break the connection off after so many bytes of the body.
    cut: Option<usize>,
    /// Send nothing more after so many bytes, and keep the connection open.
    stall: Option<usize>,
    /// Send one byte at a time, with so long between them.
    drip: Option<Duration>,
}

type Handler = dyn Fn(&Asked, usize) -> Reply + Send + Sync;

/// A server on loopback; it ends with the test's process.
pub struct Unruly {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Reply {
    pub fn ok(body: impl Into<Vec<u8>>) -> Reply {
        Reply { status: 200, body: body.into(), ..Reply::default() }
    }

    pub fn status(status: u16) -> Reply {
        Reply { status, ..Reply::default() }
    }

    pub fn header(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn with_status(mut self, status: u16) -> Reply {
        self.status = status;
        self
    }

    pub fn cut_after(mut self, bytes: usize) -> Reply {
        self.cut = Some(bytes);
        self
    }

    pub fn stall_after(mut self, bytes: usize) -> Reply {
        self.stall = Some(bytes);
        self
    }
}

impl Reply {
    pub fn drip(mut self, every: Duration) -> Reply {
        self.drip = Some(every);
        self
    }
}

impl Unruly {
    /// Serves by a handler, which is told how often this path was asked for before.
    pub fn start(handler: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Unruly {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let address = listener.local_addr().expect("an address").to_string();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (log, handler): (_, Arc<Handler>) = (Arc::clone(&asked), Arc::new(handler));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, handler) = (Arc::clone(&log), Arc::clone(&handler));
                std::thread::spawn(move || serve(stream, &log, &*handler));
            }
        });
        Unruly { address, asked }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn image(&self) -> String {
        format!("{}/hello:1", self.address)
    }

    /// Every request so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("not poisoned").clone()
    }

    /// How often a path with this in it was asked for.
    pub fn count(&self, part: &str) -> usize {
        self.asked().iter().filter(|asked| asked.path.contains(part)).count()
    }
}

fn serve(stream: TcpStream, log: &Mutex<Vec<Asked>>, handler: &Handler) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let Some(asked) = read(&mut reader) else { return };
    let before = {
        let mut log = log.lock().expect("not poisoned");
        let before = log.iter().filter(|earlier| earlier.path == asked.path).count();
        log.push(asked.clone());
        before
    };
    // A client that hangs up early is what some tests want.
    let _ = answer(stream, &handler(&asked, before));
}

fn read(reader: &mut impl BufRead) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let path = words.nth(1)?.to_owned();
    let mut headers = HashMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => drop(headers.insert(name.to_lowercase(), value.to_owned())),
            None => return Some(Asked { path, headers }),
        }
    }
}

fn answer(mut stream: TcpStream, reply: &Reply) -> std::io::Result<()> {
    let named =
        |wanted: &str| reply.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
    let mut head = format!("HTTP/1.1 {} Answer\r\nConnection: close\r\n", reply.status);
    if !named("content-length") {
        head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if let Some(every) = reply.drip {
        for byte in &reply.body {
            stream.write_all(&[*byte])?;
            std::thread::sleep(every);
        }
    }
    let end = reply.cut.or(reply.stall).unwrap_or(reply.body.len()).min(reply.body.len());
    stream.write_all(&reply.body[..end])?;
    if reply.stall.is_some() {
        // Until the client has had enough.
        std::io::copy(&mut stream, &mut std::io::sink())?;
    }
    Ok(())
}
