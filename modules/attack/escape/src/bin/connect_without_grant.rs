//! Connects to a port of the machine.
//!
//! Stopped by: seccomp; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    let socket = call("socket", [2, 1, 0]);
    report(
        socket.and_then(|socket| call("connect", [socket, inet([127, 0, 0, 1], number(6)), 16])),
    );
}
