//! Sends a datagram.
//!
//! Stopped by: seccomp; nothing in a process that it shares.

use attack_escape::*;

fn main() {
    let socket = call("socket", [2, 2, 0]);
    report(
        socket.and_then(|socket| {
            call("sendto", [socket, text("x"), 1, 0, inet([127, 0, 0, 1], 9), 16])
        }),
    );
}
