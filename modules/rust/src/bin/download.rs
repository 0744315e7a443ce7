//! Reads all that an address sends, and prints how much: download HOST:PORT.
use std::io::Read;

fn main() {
    let address = std::env::args().nth(1).expect("an address");
    let mut stream = std::net::TcpStream::connect(address).expect("a connection");
    let (mut buffer, mut total) = (vec![0; 64 << 10], 0);
    loop {
        match stream.read(&mut buffer).expect("read") {
            0 => return println!("{total}"),
            count => total += count,
        }
    }
}
