//! Connects to an address, sends its third argument, and prints the answer: connect HOST:PORT TEXT.
use std::io::{Read, Write};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match std::net::TcpStream::connect(&args[1]) {
        Err(error) => println!("{}: {:?}", args[1], error.kind()),
        Ok(mut stream) => {
            stream.write_all(args[2].as_bytes()).expect("sent");
            stream.shutdown(std::net::Shutdown::Write).expect("shut down");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("answered");
            println!("{}: {answer}", args[1]);
        }
    }
}
