//! Listens on a port of the machine.
//!
//! Stopped by: landlock; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    let socket = call("socket", [2, 1, 0]);
    report(socket.and_then(|socket| call("bind", [socket, inet([127, 0, 0, 1], 0), 16])));
}
