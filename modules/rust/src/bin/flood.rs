//! Sends datagrams to the address of its argument, as many as it can.

use std::net::UdpSocket;

fn main() {
    let address = std::env::args().nth(1).expect("an address");
    let socket = UdpSocket::bind(("0.0.0.0", 0)).expect("a socket");
    loop {
        socket.send_to(&[7; 1000], &address).expect("sent");
    }
}
