//! Listens on a port of every address, and answers one connection with what it says: listen PORT.
use std::io::{Read, Write};

fn main() {
    let port = std::env::args().nth(1).expect("a port");
    let listener = match std::net::TcpListener::bind(format!("0.0.0.0:{port}")) {
        Ok(listener) => listener,
        Err(error) => return println!("cannot listen on {port}: {:?}", error.kind()),
    };
    println!("listening on {}", listener.local_addr().expect("an address").port());
    let (mut stream, _) = listener.accept().expect("a connection");
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("read");
    stream.write_all(format!("you said {said}").as_bytes()).expect("answered");
}
