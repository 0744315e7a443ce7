//! Looks up names.
use std::net::ToSocketAddrs;

fn main() {
    for name in std::env::args().skip(1) {
        match (name.as_str(), 1).to_socket_addrs() {
            Ok(found) => println!(
                "{name}: {}",
                found.map(|a| a.ip().to_string()).collect::<Vec<_>>().join(" ")
            ),
            Err(_) => println!("{name}: refused"),
        }
    }
}
