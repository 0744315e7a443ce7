//! Prints all that it can reach: its variables, and which of the paths and ports that it is told of it can read,
//! write and connect to.

use std::fs;
use std::net::TcpStream;

fn main() {
    let mut seen: Vec<String> =
        std::env::vars().map(|(name, value)| format!("variable {name}={value}")).collect();
    for target in std::env::args().skip(1) {
        if let Ok(port) = target.parse::<u16>() {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                seen.push(format!("connects {target}"));
            }
            continue;
        }
        if fs::read_dir(&target).is_ok() || fs::read(&target).is_ok() {
            seen.push(format!("reads {target}"));
        }
        let mark = format!("{target}/mark");
        if fs::write(&mark, "x").and_then(|()| fs::remove_file(&mark)).is_ok() {
            seen.push(format!("writes {target}"));
        }
    }
    seen.sort();
    println!("{}", seen.join("\n"));
}
